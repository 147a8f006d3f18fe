"""The head: a class subnet and a box subnet, shared over the levels of the pyramid."""

import math
from typing import Any

from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import CycleBatchNormList, ShapeSpec, get_norm
from detectron2.modeling.box_regression import Box2BoxTransform

from retina_plugin.registry import Condition, SlotRegistry, reads

HEAD_REGISTRY = SlotRegistry("head", "MODEL.RETINANET.HEAD_NAME", section="MODEL.HEAD")
"""``nn.Module`` classes constructed as ``head(cfg, input_shape, num_anchors)`` (see ``@configurable``).

``input_shape`` is a list of L ``ShapeSpec``, ``num_anchors`` is A. Options that a head declares are passed as keyword
arguments. Called with L features (N, C, Hi, Wi); returns L logits (N, A·K, Hi, Wi) and L deltas (N, A·4, Hi, Wi), with
channels ordered anchor first: channel a·K + k is class k of anchor a. In training, a head may return more than four
outputs per anchor for the box; it then has the attributes ``box_outputs`` and ``box2box_class``.
"""

_HAS_CONVS = Condition(lambda cfg: cfg.MODEL.RETINANET.NUM_CONVS > 0, "with MODEL.RETINANET.NUM_CONVS 0")


@HEAD_REGISTRY.register("retinanet")
@reads(
    "MODEL.RETINANET.NUM_CONVS",
    "MODEL.RETINANET.PRIOR_PROB",
    when={"MODEL.RETINANET.HEAD_CHANNELS": _HAS_CONVS, "MODEL.RETINANET.NORM": _HAS_CONVS},
)
class RetinaNetHead(nn.Module):
    """Two subnets with the same structure and separate weights, each shared over all levels.

    Source: Lin et al. 2017, section 4, "Classification Subnet", "Box Regression Subnet",
    and section 4.1, "Initialization". Parameter names are those of detectron2's RetinaNet.
    """

    box_outputs = 4
    """Outputs of the box subnet per anchor."""

    box2box_class: type[Box2BoxTransform] = Box2BoxTransform
    """How a box follows from them."""

    @configurable
    def __init__(
        self,
        *,
        input_shape: list[ShapeSpec],
        num_classes: int,
        num_anchors: int,
        num_convs: int,
        channels: int,
        norm: str,
        prior_prob: float,
    ) -> None:
        """Build both subnets and initialise their weights.

        Args:
            input_shape: shapes of the L levels; all have the same channels.
            num_classes: K, without background.
            num_anchors: A, anchors per location.
            num_convs: convolutions of each subnet before its output layer.
            channels: channels of these convolutions; 0: as many as the levels have.
            norm: "" for none, or a name of :func:`detectron2.layers.get_norm`. With "BN" and "SyncBN" every level has
                its own statistics.
            prior_prob: π, the initial score of every anchor.

        Raises:
            ValueError: if levels have different channels, or ``prior_prob`` is not between 0 and 1.
        """
        super().__init__()
        in_channels = input_shape[0].channels
        if any(shape.channels != in_channels for shape in input_shape):
            found = [shape.channels for shape in input_shape]
            raise ValueError(f"the head is shared over levels, so all need the same number of channels; got {found}")
        if not 0 < prior_prob < 1:
            raise ValueError(f"MODEL.RETINANET.PRIOR_PROB must be between 0 and 1 (exclusive), got {prior_prob}")

        channels = channels or in_channels
        self._build_subnets(in_channels, channels, num_convs, norm, num_levels=len(input_shape))
        out_channels = channels if num_convs else in_channels
        self.cls_score = nn.Conv2d(out_channels, num_anchors * num_classes, kernel_size=3, padding=1)
        self.bbox_pred = nn.Conv2d(out_channels, num_anchors * self.box_outputs, kernel_size=3, padding=1)

        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        # sigmoid(bias) = π, so that the many background anchors do not dominate the first steps.
        assert self.cls_score.bias is not None
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior_prob) / prior_prob))

    def _build_subnets(self, in_channels: int, channels: int, num_convs: int, norm: str, *, num_levels: int) -> None:
        """Set the modules that precede the two output layers."""
        self.cls_subnet = self._subnet(in_channels, channels, num_convs, norm, num_levels=num_levels)
        self.bbox_subnet = self._subnet(in_channels, channels, num_convs, norm, num_levels=num_levels)

    @staticmethod
    def _subnet(in_channels: int, channels: int, num_convs: int, norm: str, *, num_levels: int) -> nn.Sequential:
        """Return ``num_convs`` 3x3 convolutions, each with ``norm`` and ReLU."""
        layers: list[nn.Module] = []
        for i in range(num_convs):
            layers.append(nn.Conv2d(channels if i else in_channels, channels, kernel_size=3, padding=1))
            if norm in ("BN", "SyncBN"):
                bn_class = nn.BatchNorm2d if norm == "BN" else nn.SyncBatchNorm
                layers.append(CycleBatchNormList(num_levels, bn_class=bn_class, num_features=channels))
            elif norm:
                layers.append(get_norm(norm, channels))
            layers.append(nn.ReLU(inplace=True))
        return nn.Sequential(*layers)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec], num_anchors: int) -> dict[str, Any]:
        """Return the constructor's arguments from MODEL.RETINANET, the shapes of the L levels, and A."""
        node = cfg.MODEL.RETINANET
        return {
            "input_shape": input_shape,
            "num_anchors": num_anchors,
            "num_classes": node.NUM_CLASSES,
            "num_convs": node.NUM_CONVS,
            "channels": cfg.MODEL.RETINANET.HEAD_CHANNELS,
            "norm": node.NORM,
            "prior_prob": node.PRIOR_PROB,
        }

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map features L x (N, C, Hi, Wi) to logits L x (N, A·K, Hi, Wi) and deltas L x (N, A·4, Hi, Wi)."""
        logits = [self.cls_score(self.cls_subnet(feature)) for feature in features]
        deltas = [self.bbox_pred(self.bbox_subnet(feature)) for feature in features]
        return logits, deltas


@HEAD_REGISTRY.register("shared_tower")
class SharedTowerHead(RetinaNetHead):
    """One tower of convolutions for both outputs, at half the cost: a baseline for the paper's separate subnets.

    Source: Lin et al. 2017, section 4, "Box Regression Subnet", keeps the two separate; they are shared as in the
    region proposal network (Ren et al. 2015, section 3.1).
    """

    def _build_subnets(self, in_channels: int, channels: int, num_convs: int, norm: str, *, num_levels: int) -> None:
        self.subnet = self._subnet(in_channels, channels, num_convs, norm, num_levels=num_levels)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map features L x (N, C, Hi, Wi) to logits L x (N, A·K, Hi, Wi) and deltas L x (N, A·4, Hi, Wi)."""
        features = [self.subnet(feature) for feature in features]
        return [self.cls_score(x) for x in features], [self.bbox_pred(x) for x in features]
