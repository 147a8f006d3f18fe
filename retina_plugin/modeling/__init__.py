"""The detector and its parts; importing this module fills the registries of Detectron2 and of the plugin."""

from . import anchors, atss, backbone, distribution  # noqa: F401  (importing them registers their variants)
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
