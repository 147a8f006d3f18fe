"""Classifiers of torchvision that have feature maps at strides that are powers of two."""

from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

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

PROBE_SIZE = (224, 352)
"""(H, W) of the probe image; in this ratio no channels can be mistaken for a side of a map."""

DEPTH = 2
"""Depth to which modules are examined: "layer3", "features.12", "layer3.0". Deeper ones are parts of a block."""


class TorchvisionBackbone(ExternalBackbone):
    """A classifier of torchvision up to its last feature map, as a Detectron2 ``Backbone``.

    The map of a stride is the output of the last module with that stride. Channels, strides and whether a network keeps
    its channels last (Swin) are determined by a forward pass of one image.

    Args:
        name: a classifier in ``torchvision.models.list_models()``, such as "mobilenet_v2".
        out_features: names of "res2".."res5", at strides 4..32.
        in_channels: channels of the image; torchvision's classifiers take 3.

    Raises:
        ValueError: if torchvision has no such classifier, the classifier lacks one of the strides, or ``in_channels``
            is not 3.

    Source: torchvision's ``feature_extraction``.
    """

    def __init__(self, *, name: str, out_features: list[str], in_channels: int = 3) -> None:
        if name not in torchvision.models.list_models(module=torchvision.models):
            raise ValueError(
                f"MODEL.TORCHVISION.NAME is {name!r}, which torchvision {torchvision.__version__} does not have "
                "among its classifiers"
            )
        if in_channels != 3:
            raise ValueError(f"torchvision's networks take images of 3 channels, not {in_channels}")
        model = torchvision.models.get_model(name, weights=None)
        offered = feature_maps(model)
        refuse_missing_strides(f"torchvision's {name}", out_features, offered)
        maps = {feature: offered[stride_of(feature)] for feature in out_features}
        super().__init__(
            create_feature_extractor(model, {found.module: feature for feature, found in maps.items()}),
            channels={feature: found.channels for feature, found in maps.items()},
            channels_last=[feature for feature, found in maps.items() if found.channels_last],
        )

    def maps_of(self, images: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, H, W) to the maps of the network by name, in its own memory layout."""
        return self.net(images)


class FeatureMap(NamedTuple):
    """The map of a stride: the module that outputs it, its channels, and whether they are the last axis."""

    module: str
    channels: int
    channels_last: bool


def feature_maps(model: nn.Module) -> dict[int, FeatureMap]:
    """Find the last feature map of every stride of a classifier with a forward pass of one image.

    Args:
        model: classifier of images (N, 3, H, W).

    Returns:
        Maps by stride, ascending.

    Raises:
        ValueError: if it does not accept images of any size.

    Example:
        >>> maps = feature_maps(torchvision.models.resnet18())
        >>> {stride: (maps[stride].module, maps[stride].channels) for stride in (4, 8, 16, 32)}
        {4: ('layer1', 64), 8: ('layer2', 128), 16: ('layer3', 256), 32: ('layer4', 512)}
    """
    found: dict[int, FeatureMap] = {}

    def note(name: str, output: object) -> None:
        """Record the output of a module, (N, C, H, W) or (N, H, W, C), if its stride is a power of two."""
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
        raise ValueError(f"{type(model).__name__} does not accept images of any size: {error}") from error
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return dict(sorted(found.items()))


@BACKBONE_REGISTRY.register()
@reads("MODEL.TORCHVISION.NAME")
def build_retina_torchvision(cfg: CfgNode, input_shape: ShapeSpec) -> TorchvisionBackbone:
    """Build :class:`TorchvisionBackbone` from MODEL.TORCHVISION, with the maps that MODEL.RETINANET.LEVELS needs.

    Raises:
        ValueError: if MODEL.BACKBONE.FREEZE_AT is not 0; torchvision's networks have no common stages to freeze.
    """
    refuse_freezing(cfg, "build_retina_torchvision")
    return TorchvisionBackbone(
        name=cfg.MODEL.TORCHVISION.NAME,
        out_features=PyramidLevels.from_config(cfg).bottom_up_features,
        in_channels=input_shape.channels,
    )
