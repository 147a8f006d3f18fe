"""The backbone of the meta-architecture: bottom-up network, neck and top block."""

from typing import cast

from torch import nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, FPN, Backbone

from retina_plugin.modeling.neck.bifpn import BiFPN
from retina_plugin.modeling.neck.levels import PyramidLevels
from retina_plugin.modeling.neck.refine import BottomUpPath, LevelConvs, RefinedFPN
from retina_plugin.modeling.neck.top_block import TOP_BLOCK_REGISTRY
from retina_plugin.registry import Condition, SlotRegistry, reads

NECK_REGISTRY = SlotRegistry("neck", "MODEL.FPN.NAME", section="MODEL.NECK")
"""Callables ``neck(cfg, bottom_up, in_features, top_block) -> Backbone``.

``bottom_up`` is a ``Backbone`` that yields ``in_features`` (finest first), ``top_block`` a module of
``TOP_BLOCK_REGISTRY`` or None; options that a neck declares are passed as keyword arguments. The result yields "p<l>"
of MODEL.FPN.OUT_CHANNELS channels for every level l of MODEL.RETINANET.LEVELS.
"""


def _refinement(cfg: CfgNode, num_levels: int, *, path: bool) -> nn.Sequential | None:
    """Return what follows the pyramid: a bottom-up path, MODEL.FPN.EXTRA_CONVS, both, or None."""
    common = {"num_levels": num_levels, "channels": cfg.MODEL.FPN.OUT_CHANNELS, "norm": cfg.MODEL.FPN.NORM}
    steps: list[nn.Module] = [BottomUpPath(**common)] if path else []
    if cfg.MODEL.FPN.EXTRA_CONVS:
        steps.append(LevelConvs(num_convs=cfg.MODEL.FPN.EXTRA_CONVS, **common))
    return nn.Sequential(*steps) if steps else None


def _num_levels(in_features: list[str], top_block: nn.Module | None) -> int:
    """Return the number of levels L of the pyramid."""
    return len(in_features) + (cast("int", top_block.num_levels) if top_block else 0)


def _fpn(cfg: CfgNode, bottom_up: Backbone, in_features: list[str], top_block: nn.Module | None, *, path: bool) -> FPN:
    """Build Detectron2's FPN, followed by a bottom-up path if asked for, and by MODEL.FPN.EXTRA_CONVS."""
    arguments = {
        "bottom_up": bottom_up,
        "in_features": in_features,
        "out_channels": cfg.MODEL.FPN.OUT_CHANNELS,
        "norm": cfg.MODEL.FPN.NORM,
        "top_block": top_block,
        "fuse_type": cfg.MODEL.FPN.FUSE_TYPE,
    }
    refine = _refinement(cfg, _num_levels(in_features, top_block), path=path)
    return RefinedFPN(refine=refine, **arguments) if refine else FPN(**arguments)


@NECK_REGISTRY.register("fpn")
@reads("MODEL.FPN.NORM", "MODEL.FPN.FUSE_TYPE")
def build_fpn(cfg: CfgNode, bottom_up: Backbone, in_features: list[str], top_block: nn.Module | None) -> FPN:
    """Build Detectron2's FPN (Lin et al. 2017, *Feature Pyramid Networks for Object Detection*)."""
    return _fpn(cfg, bottom_up, in_features, top_block, path=False)


@NECK_REGISTRY.register("pafpn")
@reads("MODEL.FPN.NORM", "MODEL.FPN.FUSE_TYPE")
def build_pafpn(cfg: CfgNode, bottom_up: Backbone, in_features: list[str], top_block: nn.Module | None) -> FPN:
    """Build an FPN with a second, bottom-up path over all levels (Liu et al. 2018, *Path Aggregation Network*)."""
    return _fpn(cfg, bottom_up, in_features, top_block, path=True)


def _bifpn_reads_norm(cfg: CfgNode) -> bool:
    """Return whether MODEL.FPN.NORM has an effect, or does not contradict MODEL.FPN.BIFPN_NORM."""
    return cfg.MODEL.FPN.EXTRA_CONVS > 0 or cfg.MODEL.FPN.NORM == cfg.MODEL.FPN.BIFPN_NORM


@NECK_REGISTRY.register("bifpn")
@reads(
    "MODEL.FPN.BIFPN_LAYERS",
    "MODEL.FPN.BIFPN_NORM",
    when={
        "MODEL.FPN.NORM": Condition(
            _bifpn_reads_norm, "with MODEL.FPN.NAME bifpn without EXTRA_CONVS; its norm is MODEL.FPN.BIFPN_NORM"
        )
    },
)
def build_bifpn(cfg: CfgNode, bottom_up: Backbone, in_features: list[str], top_block: nn.Module | None) -> BiFPN:
    """Build a BiFPN of MODEL.FPN.BIFPN_LAYERS layers with MODEL.FPN.BIFPN_NORM (Tan et al. 2020, *EfficientDet*)."""
    return BiFPN(
        bottom_up=bottom_up,
        in_features=in_features,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.BIFPN_NORM,
        top_block=top_block,
        num_layers=cfg.MODEL.FPN.BIFPN_LAYERS,
        refine=_refinement(cfg, _num_levels(in_features, top_block), path=False),
    )


@BACKBONE_REGISTRY.register()
def build_retina_pyramid_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build MODEL.BOTTOM_UP.NAME with MODEL.FPN.NAME and MODEL.FPN.TOP_BLOCK on top.

    Raises:
        ValueError: if a variant is unknown, or the result does not yield the configured levels.
    """
    pyramid = PyramidLevels.from_config(cfg)
    if cfg.MODEL.BOTTOM_UP.NAME not in BACKBONE_REGISTRY:
        backbones = sorted(name for name, _ in BACKBONE_REGISTRY)
        raise ValueError(f"MODEL.BOTTOM_UP.NAME is {cfg.MODEL.BOTTOM_UP.NAME!r}; known: {backbones}")
    bottom_up = BACKBONE_REGISTRY.get(cfg.MODEL.BOTTOM_UP.NAME)(cfg, input_shape)
    shapes = bottom_up.output_shape()
    missing = [name for name in pyramid.bottom_up_features if name not in shapes]
    if missing:
        raise ValueError(
            f"{cfg.MODEL.BOTTOM_UP.NAME} yields {sorted(shapes)}, but MODEL.RETINANET.LEVELS also needs {missing}"
        )

    TOP_BLOCK_REGISTRY.get(cfg.MODEL.FPN.TOP_BLOCK)  # an unknown name is an error even if no level needs a top block
    top_block = None
    if pyramid.num_top_levels:
        last = pyramid.bottom_up_features[-1]
        top_block = TOP_BLOCK_REGISTRY.build(
            cfg.MODEL.FPN.TOP_BLOCK,
            cfg=cfg,
            bottom_up_channels=shapes[last].channels,
            out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
            num_levels=pyramid.num_top_levels,
            last_level=int(last.removeprefix("res")),
        )
    backbone = NECK_REGISTRY.get(cfg.MODEL.FPN.NAME)(
        cfg, bottom_up, pyramid.bottom_up_features, top_block, **NECK_REGISTRY.options_of(cfg.MODEL.FPN.NAME, cfg)
    )
    strides = {name: shape.stride for name, shape in backbone.output_shape().items()}
    want = {f"p{level}": 2**level for level in pyramid.levels}
    if strides != want:
        raise ValueError(f"the pyramid yields {strides}, but MODEL.RETINANET.LEVELS requires {want}")
    return backbone
