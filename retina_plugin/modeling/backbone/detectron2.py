"""Detectron2's RegNet, Swin and plain ViT by name; Detectron2 itself offers them in LazyConfigs only."""

from typing import Any

from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.regnet import RegNet, ResBottleneckBlock, SimpleStem
from detectron2.modeling.backbone.swin import SwinTransformer
from detectron2.modeling.backbone.vit import SimpleFeaturePyramid, ViT

from retina_plugin.modeling.backbone.external import refuse_freezing
from retina_plugin.modeling.neck.levels import PyramidLevels
from retina_plugin.modeling.neck.top_block import TOP_BLOCK_REGISTRY
from retina_plugin.registry import reads

REGNETS: dict[str, dict[str, Any]] = {
    "regnetx_400mf": {"depth": 22, "w_a": 24.48, "w_0": 24, "w_m": 2.54, "group_width": 16},
    "regnetx_4gf": {"depth": 23, "w_a": 38.65, "w_0": 96, "w_m": 2.43, "group_width": 40},
}
"""Radosavovic et al. 2020, *Designing Network Design Spaces*, figure 15, with the values from the authors' pycls."""

SWINS: dict[str, dict[str, Any]] = {
    "swin_t": {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)},
    "swin_s": {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)},
    "swin_b": {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
}
"""Liu et al. 2021, *Swin Transformer*, section 3.3."""

VITS: dict[str, dict[str, int]] = {
    "vit_ti": {"embed_dim": 192, "depth": 12, "num_heads": 3},
    "vit_s": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "vit_b": {"embed_dim": 768, "depth": 12, "num_heads": 12},
}
"""Dosovitskiy et al. 2021, *An Image is Worth 16x16 Words*, table 1; Touvron et al. 2021, *DeiT*, table 1."""

NETWORKS = (*REGNETS, *SWINS)
PATCH, WINDOW = 16, 14
GLOBAL_BLOCKS = 4
"""Number of evenly spaced blocks of a ViT that attend to the whole image, the others to windows (Li et al. 2022,
*ViTDet*, section 3)."""


class RenamedBackbone(Backbone):
    """A network whose feature maps are renamed to "res2".."res5", by their stride.

    Args:
        net: network that yields maps of any name at strides 4, 8, 16 and 32.
        out_features: names of "res2".."res5".
    """

    def __init__(self, net: Backbone, out_features: list[str]) -> None:
        super().__init__()
        self.net = net
        shapes = {f"res{shape.stride.bit_length() - 1}": (name, shape) for name, shape in net.output_shape().items()}
        self._out_features = list(out_features)
        self._names = {name: shapes[name][0] for name in out_features}
        self._out_feature_channels = {name: shapes[name][1].channels for name in out_features}
        self._out_feature_strides = {name: shapes[name][1].stride for name in out_features}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map images (N, C, H, W) to maps (N, Ci, H / stride, W / stride) by name."""
        maps = self.net(images)
        return {name: maps[theirs] for name, theirs in self._names.items()}


@BACKBONE_REGISTRY.register()
@reads("MODEL.DETECTRON2.NAME")
def build_retina_detectron2(cfg: CfgNode, input_shape: ShapeSpec) -> RenamedBackbone:
    """Build a RegNet or Swin of Detectron2, MODEL.DETECTRON2.NAME, with the maps that MODEL.RETINANET.LEVELS needs.

    Raises:
        ValueError: if there is no such network, or MODEL.BACKBONE.FREEZE_AT is not 0.
    """
    name, features = cfg.MODEL.DETECTRON2.NAME, PyramidLevels.from_config(cfg).bottom_up_features
    refuse_freezing(cfg, "build_retina_detectron2")
    stages = [int(feature.removeprefix("res")) - 1 for feature in features]  # 1..4
    if name in REGNETS:
        # Its stem takes three channels, regardless of the image.
        net = RegNet(
            stem_class=SimpleStem,
            stem_width=32,
            block_class=ResBottleneckBlock,
            norm="BN",
            out_features=[f"s{stage}" for stage in stages],
            **REGNETS[name],
        )
    elif name in SWINS:
        net = SwinTransformer(in_chans=input_shape.channels, out_indices=[stage - 1 for stage in stages], **SWINS[name])
    else:
        raise ValueError(
            f"MODEL.DETECTRON2.NAME is {name!r}, which has no feature maps of several strides; known: "
            f"{', '.join(NETWORKS)}, and {', '.join(VITS)} for build_retina_vit_backbone"
        )
    return RenamedBackbone(net, features)


class PaddedFeaturePyramid(SimpleFeaturePyramid):
    """Detectron2's pyramid of a plain ViT, with the divisor that images are padded to.

    Without padding, the last rows and columns of an image would be lost.
    """

    @property
    def size_divisibility(self) -> int:
        """Coarsest stride of the pyramid without its top block, to a multiple of which images are padded."""
        return self._size_divisibility


@BACKBONE_REGISTRY.register()
@reads("MODEL.DETECTRON2.NAME", "MODEL.FPN.NORM", "MODEL.FPN.TOP_BLOCK")
def build_retina_vit_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> PaddedFeaturePyramid:
    """Build a plain ViT of Detectron2 with its simple pyramid and MODEL.FPN.TOP_BLOCK; for MODEL.BACKBONE.NAME.

    The ViT is MODEL.DETECTRON2.NAME, without relative positions, so that it accepts images of any size.

    Raises:
        ValueError: if there is no such network, or the top block reads a map that it does not have.

    Source: Li et al. 2022, *Exploring Plain Vision Transformer Backbones for Object Detection*.
    """
    name, pyramid = cfg.MODEL.DETECTRON2.NAME, PyramidLevels.from_config(cfg)
    if name not in VITS:
        raise ValueError(f"MODEL.DETECTRON2.NAME is {name!r}; build_retina_vit_backbone builds {', '.join(VITS)}")
    size = VITS[name]
    every = size["depth"] // GLOBAL_BLOCKS
    windows = [i for i in range(size["depth"]) if (i + 1) % every]
    net = ViT(
        patch_size=PATCH,
        in_chans=input_shape.channels,
        window_size=WINDOW,
        window_block_indexes=windows,
        out_feature="last_feat",
        **size,
    )
    own = [level for level in pyramid.levels if level <= 5]
    top_block: nn.Module | None = None
    if pyramid.num_top_levels:
        if cfg.MODEL.FPN.TOP_BLOCK == "conv_c5":
            raise ValueError(
                "MODEL.FPN.TOP_BLOCK conv_c5 reads the network's map of stride 32, which a plain ViT does not have: "
                "set conv_p5 or max_pool"
            )
        top_block = TOP_BLOCK_REGISTRY.build(
            cfg.MODEL.FPN.TOP_BLOCK,
            cfg=cfg,
            bottom_up_channels=size["embed_dim"],
            out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
            num_levels=pyramid.num_top_levels,
            last_level=own[-1],
        )
    return PaddedFeaturePyramid(
        net=net,
        in_feature="last_feat",
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        scale_factors=[PATCH / 2**level for level in own],
        top_block=top_block,
        norm=cfg.MODEL.FPN.NORM or "LN",
    )
