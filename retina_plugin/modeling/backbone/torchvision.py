"""Any classifier of torchvision that has feature maps at powers of two."""

from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, Backbone

from retina_plugin.modeling.backbone.depthwise import keep_depthwise_in_float32
from retina_plugin.modeling.neck.levels import PyramidLevels
from retina_plugin.registry import reads

PROBE_SIZE = (224, 352)
"""(H, W) of the image that tells where maps lie: sides in a ratio that no network's channels have."""

DEPTH = 2
"""Modules this deep are looked at: "layer3", "features.12", "layer3.0". Deeper ones are parts of a block."""


class TorchvisionBackbone(Backbone):
    """A classifier of torchvision without what follows its last feature map, as a detectron2 ``Backbone``.

    The map of a stride is what the last module with that stride gives. Channels, strides and whether
    a network keeps its channels last (Swin) are read from a pass of one image through it.

    Args:
        name: a classifier in ``torchvision.models.list_models()``, such as "mobilenet_v2".
        out_features: of "res2".."res5", by stride 4..32.
        in_channels: of the image; torchvision's classifiers take 3.

    Raises:
        ValueError: torchvision has no such classifier, or it lacks one of the strides.

    Source: torchvision's ``feature_extraction``.
    """

    def __init__(self, *, name: str, out_features: list[str], in_channels: int = 3) -> None:
        super().__init__()
        if name not in torchvision.models.list_models(module=torchvision.models):
            raise ValueError(
                f"MODEL.TORCHVISION.NAME is {name!r}, which torchvision {torchvision.__version__} does not have among its classifiers"
            )
        if in_channels != 3:
            raise ValueError(f"torchvision's networks take images of 3 channels, not {in_channels}")
        strides = [2 ** int(feature.removeprefix("res")) for feature in out_features]
        model = torchvision.models.get_model(name, weights=None)
        maps = feature_maps(model)
        if missing := [stride for stride in strides if stride not in maps]:
            raise ValueError(f"torchvision's {name} has feature maps at strides {sorted(maps)}, not at {missing}")
        nodes = {maps[stride].module: feature for stride, feature in zip(strides, out_features, strict=True)}
        self.net = create_feature_extractor(model, nodes)
        keep_depthwise_in_float32(self.net)
        self._channels_last = {
            feature: maps[stride].channels_last for feature, stride in zip(out_features, strides, strict=True)
        }
        self._out_features = list(out_features)
        self._out_feature_channels = {
            feature: maps[stride].channels for feature, stride in zip(out_features, strides, strict=True)
        }
        self._out_feature_strides = dict(zip(out_features, strides, strict=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) to maps (N, Ci, H / stride, W / stride) by name."""
        maps = self.net(images)
        return {
            name: maps[name].permute(0, 3, 1, 2) if last else maps[name] for name, last in self._channels_last.items()
        }


class FeatureMap(NamedTuple):
    """Where a classifier has the map of a stride: the module that gives it, its channels, and whether these stand last."""

    module: str
    channels: int
    channels_last: bool


def feature_maps(model: nn.Module) -> dict[int, FeatureMap]:
    """The last feature map of every stride of a classifier, by stride, from passing one image through it.

    Args:
        model: takes (N, 3, H, W).

    Raises:
        ValueError: it does not take images of any size.

    Example:
        >>> maps = feature_maps(torchvision.models.resnet18())
        >>> {stride: (maps[stride].module, maps[stride].channels) for stride in (4, 8, 16, 32)}
        {4: ('layer1', 64), 8: ('layer2', 128), 16: ('layer3', 256), 32: ('layer4', 512)}
    """
    found: dict[int, FeatureMap] = {}

    def note(name: str, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            return
        for channel_axis, (h, w) in ((1, output.shape[2:]), (3, output.shape[1:3])):
            stride = PROBE_SIZE[0] // h
            if (stride * h, stride * w) == PROBE_SIZE and stride & (stride - 1) == 0:
                found[stride] = FeatureMap(name, output.shape[channel_axis], channel_axis == 3)

    modules = [(name, module) for name, module in model.named_modules() if name and name.count(".") < DEPTH]
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: note(name, output))
        for name, module in modules
    ]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, *PROBE_SIZE))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"{type(model).__name__} does not take images of any size: {error}") from error
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return dict(sorted(found.items()))


@BACKBONE_REGISTRY.register()
@reads("MODEL.TORCHVISION.NAME")
def build_retina_torchvision(cfg: CfgNode, input_shape: ShapeSpec) -> TorchvisionBackbone:
    """:class:`TorchvisionBackbone` from MODEL.TORCHVISION, with the feature maps that MODEL.RETINANET.LEVELS needs.

    Raises:
        ValueError: MODEL.BACKBONE.FREEZE_AT is not 0; torchvision's networks have no common stages to freeze.
    """
    if cfg.MODEL.BACKBONE.FREEZE_AT != 0:
        raise ValueError(
            f"build_retina_torchvision trains the whole network: set MODEL.BACKBONE.FREEZE_AT 0, not {cfg.MODEL.BACKBONE.FREEZE_AT}"
        )
    return TorchvisionBackbone(
        name=cfg.MODEL.TORCHVISION.NAME,
        out_features=PyramidLevels.from_config(cfg).bottom_up_features,
        in_channels=input_shape.channels,
    )
