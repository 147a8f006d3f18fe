"""Feature pyramids: their levels, the top blocks that add the coarse ones, and the necks."""

from .fpn import NECK_REGISTRY, build_retina_pyramid_backbone
from .levels import PyramidLevels
from .top_block import TOP_BLOCK_REGISTRY

__all__ = ["NECK_REGISTRY", "TOP_BLOCK_REGISTRY", "PyramidLevels", "build_retina_pyramid_backbone"]
