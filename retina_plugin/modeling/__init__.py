"""The detector and its parts; importing this fills detectron2's registries and the plugin's own."""

from . import anchors, atss, backbone  # noqa: F401  (registered on import)
from .assignment import ASSIGNER_REGISTRY
from .head import HEAD_REGISTRY
from .losses import BOX_LOSS_REGISTRY, CLS_LOSS_REGISTRY
from .meta_arch import RetinaPluginNet
from .neck import NECK_REGISTRY, TOP_BLOCK_REGISTRY
from .options import unused_options

__all__ = [
    "ASSIGNER_REGISTRY",
    "BOX_LOSS_REGISTRY",
    "CLS_LOSS_REGISTRY",
    "HEAD_REGISTRY",
    "NECK_REGISTRY",
    "TOP_BLOCK_REGISTRY",
    "RetinaPluginNet",
    "unused_options",
]
