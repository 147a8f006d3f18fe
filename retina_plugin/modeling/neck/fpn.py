"""The backbone that the meta-architecture sees: bottom-up network, neck and top block put together."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, FPN, Backbone

from retina_plugin.modeling.neck.levels import PyramidLevels
from retina_plugin.modeling.neck.top_block import TOP_BLOCK_REGISTRY
from retina_plugin.registry import SlotRegistry

NECK_REGISTRY = SlotRegistry("neck", "MODEL.FPN.NAME")
"""Callables ``neck(cfg, bottom_up, in_features, top_block) -> Backbone``.

``bottom_up`` is a ``Backbone`` that yields ``in_features`` (finest first), ``top_block`` a module of
``TOP_BLOCK_REGISTRY`` or None. The result yields "p<l>" of MODEL.FPN.OUT_CHANNELS channels for
every level l of MODEL.RETINANET.LEVELS.
"""


@NECK_REGISTRY.register("fpn")
def build_fpn(cfg: CfgNode, bottom_up: Backbone, in_features: list[str], top_block) -> FPN:
    """Detectron2's feature pyramid network (Lin et al. 2017, *Feature Pyramid Networks for Object Detection*)."""
    return FPN(
        bottom_up=bottom_up,
        in_features=in_features,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@BACKBONE_REGISTRY.register()
def build_retina_pyramid_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build MODEL.BOTTOM_UP.NAME and put MODEL.FPN.NAME with MODEL.FPN.TOP_BLOCK on it.

    Raises:
        ValueError: a variant is unknown, or what was built does not yield the configured levels.
    """
    pyramid = PyramidLevels.from_config(cfg)
    if cfg.MODEL.BOTTOM_UP.NAME not in BACKBONE_REGISTRY:
        raise ValueError(f"MODEL.BOTTOM_UP.NAME is {cfg.MODEL.BOTTOM_UP.NAME!r}; known: {sorted(name for name, _ in BACKBONE_REGISTRY)}")
    bottom_up = BACKBONE_REGISTRY.get(cfg.MODEL.BOTTOM_UP.NAME)(cfg, input_shape)
    shapes = bottom_up.output_shape()
    missing = [name for name in pyramid.bottom_up_features if name not in shapes]
    if missing:
        raise ValueError(f"{cfg.MODEL.BOTTOM_UP.NAME} yields {sorted(shapes)}, but MODEL.RETINANET.LEVELS needs {missing} too")

    top_block = None
    if pyramid.num_top_levels:
        last = pyramid.bottom_up_features[-1]
        top_block = TOP_BLOCK_REGISTRY.get(cfg.MODEL.FPN.TOP_BLOCK)(
            bottom_up_channels=shapes[last].channels,
            out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
            num_levels=pyramid.num_top_levels,
            last_level=int(last.removeprefix("res")),
        )
    backbone = NECK_REGISTRY.get(cfg.MODEL.FPN.NAME)(cfg, bottom_up, pyramid.bottom_up_features, top_block)
    strides = {name: shape.stride for name, shape in backbone.output_shape().items()}
    want = {f"p{level}": 2**level for level in pyramid.levels}
    if strides != want:
        raise ValueError(f"the pyramid yields {strides}, but MODEL.RETINANET.LEVELS asks for {want}")
    return backbone
