"""ResNet 18-152 and ResNeXt."""

from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, BasicStem, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock

from retina_plugin.modeling.backbone.folding import fold_frozen_norms
from retina_plugin.modeling.neck.levels import PyramidLevels
from retina_plugin.registry import reads

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks of the stages res2..res5 by depth (He et al. 2016, table 1)."""


def build_resnet(
    *,
    depth: int,
    out_features: list[str],
    norm: str,
    freeze_at: int,
    in_channels: int = 3,
    stem_channels: int = 64,
    num_groups: int = 1,
    width_per_group: int = 64,
    stride_in_1x1: bool = False,
) -> ResNet:
    """Build a ResNet or ResNeXt of Detectron2's blocks, with frozen normalisation folded into the convolutions.

    Args:
        depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        out_features: names of "res2".."res5"; stages after the last one named are not built.
        norm: a name of :func:`detectron2.layers.get_norm`: "FrozenBN", "BN", "SyncBN", "GN".
        freeze_at: number of stages that are not trained: 0 none, 1 the stem, 2 the stem and res2, ... 5 all.
        in_channels: channels of the image.
        stem_channels: channels of the stem.
        num_groups: 1 for ResNet; 32 for ResNeXt-101-32x8d.
        width_per_group: 64 for ResNet; 8 for ResNeXt-101-32x8d.
        stride_in_1x1: put the stride of a bottleneck in the first 1x1 (MSRA weights), not in the 3x3 (torchvision's).

    Returns:
        ``Backbone`` that maps (N, C, H, W) to a dict of maps at strides 4, 8, 16, 32.

    Raises:
        ValueError: if the depth is unknown, or basic blocks are given groups.

    Source: He et al. 2016; Xie et al. 2017.
    """
    if depth not in BLOCKS:
        raise ValueError(f"MODEL.RESNETS.DEPTH must be one of {sorted(BLOCKS)}, got {depth}")
    basic = depth < 50
    if basic and (num_groups, width_per_group) != (1, 64):
        raise ValueError(f"ResNet-{depth} has no groups: set MODEL.RESNETS.NUM_GROUPS 1 and WIDTH_PER_GROUP 64")
    stages, channels = [], stem_channels
    last_stage = max(int(feature.removeprefix("res")) for feature in out_features)
    for stage, num_blocks in enumerate(BLOCKS[depth][: last_stage - 1]):
        out_channels = (64 if basic else 256) * 2**stage
        bottleneck: dict[str, Any] = {
            "bottleneck_channels": num_groups * width_per_group * 2**stage,
            "num_groups": num_groups,
            "stride_in_1x1": stride_in_1x1,
        }
        stages.append(
            ResNet.make_stage(
                BasicBlock if basic else BottleneckBlock,
                num_blocks,
                in_channels=channels,
                out_channels=out_channels,
                stride_per_block=[1 if stage == 0 else 2] + [1] * (num_blocks - 1),
                norm=norm,
                **({} if basic else bottleneck),
            )
        )
        channels = out_channels
    stem = BasicStem(in_channels=in_channels, out_channels=stem_channels, norm=norm)
    resnet = ResNet(stem, stages, out_features=out_features, freeze_at=freeze_at)
    fold_frozen_norms(resnet)
    return resnet


@BACKBONE_REGISTRY.register()
@reads(
    *(
        f"MODEL.RESNETS.{key}"
        for key in ("DEPTH", "NORM", "STEM_OUT_CHANNELS", "NUM_GROUPS", "WIDTH_PER_GROUP", "STRIDE_IN_1X1")
    )
)
def build_retina_resnet(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Call :func:`build_resnet` with MODEL.RESNETS and the feature maps that MODEL.RETINANET.LEVELS needs.

    RES2_OUT_CHANNELS and OUT_FEATURES follow from DEPTH and LEVELS and are not read.

    Raises:
        ValueError: if dilation or deformable convolutions are set, which RetinaNet does not use; see also
            :func:`build_resnet`.
    """
    node = cfg.MODEL.RESNETS
    if node.RES5_DILATION != 1 or any(node.DEFORM_ON_PER_STAGE):
        raise ValueError(
            "build_retina_resnet has no dilation or deformable convolutions: "
            "leave MODEL.RESNETS.RES5_DILATION and DEFORM_ON_PER_STAGE at their defaults"
        )
    return build_resnet(
        depth=node.DEPTH,
        out_features=PyramidLevels.from_config(cfg).bottom_up_features,
        norm=node.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        in_channels=input_shape.channels,
        stem_channels=node.STEM_OUT_CHANNELS,
        num_groups=node.NUM_GROUPS,
        width_per_group=node.WIDTH_PER_GROUP,
        stride_in_1x1=node.STRIDE_IN_1X1,
    )
