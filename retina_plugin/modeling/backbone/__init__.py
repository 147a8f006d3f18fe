"""Bottom-up networks, registered in Detectron2's BACKBONE_REGISTRY; each yields the requested maps of res2..res5."""

from .detectron2 import build_retina_detectron2, build_retina_vit_backbone
from .resnet import build_retina_resnet
from .timm import build_retina_timm
from .torchvision import build_retina_torchvision

__all__ = [
    "build_retina_detectron2",
    "build_retina_resnet",
    "build_retina_timm",
    "build_retina_torchvision",
    "build_retina_vit_backbone",
]
