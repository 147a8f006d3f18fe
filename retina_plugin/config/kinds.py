"""Which kind of detector a config describes."""

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

META_ARCHITECTURE, DETECTRON2S_RETINANET = "RetinaPluginNet", "RetinaNet"
OWN_PYRAMID = "build_retina_pyramid_backbone"


def is_ours(cfg: CfgNode) -> bool:
    """Return whether the model is the plugin's, or a subclass of it."""
    ours, chosen = META_ARCH_REGISTRY.get(META_ARCHITECTURE), META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    return isinstance(chosen, type) and issubclass(chosen, ours)


def is_retinanet(cfg: CfgNode) -> bool:
    """Return whether the model reads the keys of MODEL.RETINANET, as the plugin's and Detectron2's RetinaNet do."""
    return is_ours(cfg) or cfg.MODEL.META_ARCHITECTURE == DETECTRON2S_RETINANET


def has_own_pyramid(cfg: CfgNode) -> bool:
    """Return whether the backbone is the plugin's, which MODEL.BOTTOM_UP, FPN and RETINANET.LEVELS describe."""
    return cfg.MODEL.BACKBONE.NAME == OWN_PYRAMID
