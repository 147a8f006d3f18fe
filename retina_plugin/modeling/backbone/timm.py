"""Any network of timm that yields feature maps at powers of two."""

import timm
import torch
from timm.layers import Format
from torch import Tensor

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, Backbone

from retina_plugin.modeling.backbone.depthwise import keep_depthwise_in_float32
from retina_plugin.modeling.neck.levels import PyramidLevels
from retina_plugin.registry import reads


class TimmBackbone(Backbone):
    """A timm network without its classifier, as a detectron2 ``Backbone``.

    Args:
        name: a model name of timm, such as "tf_efficientnet_lite0".
        out_features: of "res2".."res5", by stride 4..32; channels and strides are read from timm.
        in_channels: of the image.

    Raises:
        ValueError: timm has no such network, or it lacks one of the strides.

    Source: Wightman, *PyTorch Image Models*, ``features_only``.
    """

    def __init__(self, *, name: str, out_features: list[str], in_channels: int = 3) -> None:
        super().__init__()
        if not timm.is_model(name):
            raise ValueError(f"MODEL.TIMM.NAME is {name!r}, which timm {timm.__version__} does not have")
        # Of timm's window transformers only these take images of another size than they were trained on.
        options = {
            "features_only": True,
            "in_chans": in_channels,
            **({"strict_img_size": False} if name.startswith("swin") else {}),
        }
        strides = [2 ** int(feature.removeprefix("res")) for feature in out_features]
        with torch.device("meta"):  # shapes only, to learn which of the network's maps have these strides
            offered = timm.create_model(name, **options).feature_info.reduction()
        missing = [stride for stride in strides if stride not in offered]
        if missing:
            raise ValueError(f"timm's {name} has feature maps at strides {offered}, not at {missing}")
        indices = [offered.index(stride) for stride in strides]
        self.net = timm.create_model(name, out_indices=indices, **options)
        self._channels_last = getattr(self.net, "output_fmt", None) == Format.NHWC
        keep_depthwise_in_float32(self.net)
        self._out_features = list(out_features)
        self._out_feature_channels = dict(zip(out_features, self.net.feature_info.channels()))
        self._out_feature_strides = dict(zip(out_features, strides))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W) to maps (N, Ci, H / stride, W / stride) by name."""
        maps = self.net(images)
        return dict(zip(self._out_features, (x.permute(0, 3, 1, 2) for x in maps) if self._channels_last else maps))


@BACKBONE_REGISTRY.register()
@reads("MODEL.TIMM.NAME")
def build_retina_timm(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """:class:`TimmBackbone` from MODEL.TIMM, with the feature maps that MODEL.RETINANET.LEVELS needs.

    Raises:
        ValueError: MODEL.BACKBONE.FREEZE_AT is not 0; timm's networks have no common stages to freeze.
    """
    if cfg.MODEL.BACKBONE.FREEZE_AT != 0:
        raise ValueError(
            f"build_retina_timm trains the whole network: set MODEL.BACKBONE.FREEZE_AT 0, not {cfg.MODEL.BACKBONE.FREEZE_AT}"
        )
    return TimmBackbone(
        name=cfg.MODEL.TIMM.NAME,
        out_features=PyramidLevels.from_config(cfg).bottom_up_features,
        in_channels=input_shape.channels,
    )
