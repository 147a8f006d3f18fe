"""Networks of timm that have feature maps at strides that are powers of two."""

from typing import Any

import timm
import torch
from timm.layers import Format
from torch import Tensor

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY

from retina_plugin.modeling.backbone.external import (
    ExternalBackbone,
    refuse_freezing,
    refuse_missing_strides,
    stride_of,
)
from retina_plugin.modeling.neck.levels import PyramidLevels
from retina_plugin.registry import reads


class TimmBackbone(ExternalBackbone):
    """A timm network without its classifier, as a Detectron2 ``Backbone``.

    Args:
        name: model name in timm, such as "tf_efficientnet_lite0".
        out_features: names of "res2".."res5", at strides 4..32; their channels are read from timm.
        in_channels: channels of the image.

    Raises:
        ValueError: if timm has no such network, or the network lacks one of the strides.

    Source: Wightman, *PyTorch Image Models*, ``features_only``.
    """

    def __init__(self, *, name: str, out_features: list[str], in_channels: int = 3) -> None:
        if not timm.is_model(name):
            raise ValueError(f"MODEL.TIMM.NAME is {name!r}, which timm {timm.__version__} does not have")
        options: dict[str, Any] = {"features_only": True, "in_chans": in_channels}
        if name.startswith("swin"):
            # Of timm's window transformers only these accept images of a size other than that of their training.
            options["strict_img_size"] = False
        with torch.device("meta"):  # shapes only, to find out which of the network's maps have these strides
            shapes: Any = timm.create_model(name, **options)
        offered = shapes.feature_info.reduction()
        refuse_missing_strides(f"timm's {name}", out_features, offered)
        indices = [offered.index(stride_of(feature)) for feature in out_features]
        net: Any = timm.create_model(name, out_indices=indices, **options)
        is_channels_last = getattr(net, "output_fmt", None) == Format.NHWC
        super().__init__(
            net,
            channels=dict(zip(out_features, net.feature_info.channels(), strict=True)),
            channels_last=out_features if is_channels_last else (),
        )

    def maps_of(self, images: Tensor) -> dict[str, Tensor]:
        """Map images (N, C, H, W) to the maps of the network by name, in its own memory layout."""
        return dict(zip(self._out_features, self.net(images), strict=True))


@BACKBONE_REGISTRY.register()
@reads("MODEL.TIMM.NAME")
def build_retina_timm(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build :class:`TimmBackbone` from MODEL.TIMM, with the maps that MODEL.RETINANET.LEVELS needs.

    Raises:
        ValueError: if MODEL.BACKBONE.FREEZE_AT is not 0; timm's networks have no common stages to freeze.
    """
    refuse_freezing(cfg, "build_retina_timm")
    return TimmBackbone(
        name=cfg.MODEL.TIMM.NAME,
        out_features=PyramidLevels.from_config(cfg).bottom_up_features,
        in_channels=input_shape.channels,
    )
