"""Values of the model's keys that are allowed individually but not together."""

from collections.abc import Iterator
from typing import NamedTuple

import timm
import torchvision

from detectron2.config import CfgNode

from retina_plugin.config.kinds import OWN_PYRAMID, has_own_pyramid, is_ours, is_retinanet
from retina_plugin.config.resolve import LAST_RESNET_STAGE

BATCH_NORMS = ("BN", "SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")
PYRAMIDS = (
    OWN_PYRAMID,
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
    "build_retina_vit_backbone",
)
RESNETS = ("build_retina_resnet", "build_resnet_backbone")
OTHER_NETWORKS = ("build_retina_timm", "build_retina_torchvision", "build_retina_detectron2")
WITHOUT_PYRAMID = (*RESNETS, *OTHER_NETWORKS)
GROUPS = 32
"""Number of groups of Detectron2's group normalisation, which must divide the channels."""


class Problem(NamedTuple):
    """Something that cannot work.

    Args:
        keys: The keys it is about, separated by spaces; "" if they are not known.
        text: What is wrong, and how to fix it.
    """

    keys: str
    text: str


def model_problems(cfg: CfgNode) -> Iterator[Problem]:
    """Yield the contradictions between the keys of the model.

    Args:
        cfg: A resolved config.
    """
    if is_retinanet(cfg):
        yield from _head(cfg)
    if has_own_pyramid(cfg):
        yield from _pyramid(cfg)
        yield from _bottom_up(cfg)
    if is_ours(cfg):
        yield from _backbone(cfg)
    if is_ours(cfg) and has_own_pyramid(cfg):
        yield from _group_norm(cfg)
        yield from _batch_norm(cfg)
    if is_retinanet(cfg):
        yield from _anchors(cfg)


def _pyramid(cfg: CfgNode) -> Iterator[Problem]:
    """Yield contradictions between the neck and the levels."""
    levels = cfg.MODEL.RETINANET.LEVELS
    if cfg.MODEL.FPN.TOP_BLOCK == "none" and max(levels) > LAST_RESNET_STAGE:
        yield Problem(
            "MODEL.FPN.TOP_BLOCK MODEL.RETINANET.LEVELS",
            f"MODEL.FPN.TOP_BLOCK is 'none', but MODEL.RETINANET.LEVELS goes up to {max(levels)} "
            f"and the backbone ends at {LAST_RESNET_STAGE}",
        )
    if cfg.MODEL.FPN.NAME == "bifpn" and len(levels) < 2:
        yield Problem(
            "MODEL.FPN.NAME MODEL.RETINANET.LEVELS",
            "MODEL.FPN.NAME bifpn fuses levels, so MODEL.RETINANET.LEVELS needs at least two",
        )


def _head(cfg: CfgNode) -> Iterator[Problem]:
    """Yield contradictions in the loss and the assigner."""
    batch_size = cfg.MODEL.CLS_LOSS.OHEM_BATCH_SIZE
    if cfg.MODEL.RETINANET.CLS_LOSS == "ohem_1to3" and batch_size < 4:
        yield Problem(
            "MODEL.CLS_LOSS.OHEM_BATCH_SIZE",
            f"MODEL.CLS_LOSS.OHEM_BATCH_SIZE is {batch_size}; ohem_1to3 needs at least 4: "
            "one foreground anchor and three background anchors",
        )
    thresholds, labels = list(cfg.MODEL.RETINANET.IOU_THRESHOLDS), list(cfg.MODEL.RETINANET.IOU_LABELS)
    if len(labels) != len(thresholds) + 1 or thresholds != sorted(thresholds):
        yield Problem(
            "MODEL.RETINANET.IOU_THRESHOLDS MODEL.RETINANET.IOU_LABELS",
            "MODEL.RETINANET.IOU_THRESHOLDS must ascend and IOU_LABELS must have one more entry; "
            f"got {thresholds} and {labels}",
        )


def _backbone(cfg: CfgNode) -> Iterator[Problem]:
    """Yield a backbone without a pyramid."""
    if cfg.MODEL.BACKBONE.NAME in WITHOUT_PYRAMID:
        yield Problem(
            "MODEL.BACKBONE.NAME",
            f"MODEL.BACKBONE.NAME is {cfg.MODEL.BACKBONE.NAME!r}, which does not output "
            f"p{cfg.MODEL.RETINANET.LEVELS[0]}; set MODEL.BOTTOM_UP.NAME to it and MODEL.BACKBONE.NAME to "
            f"{OWN_PYRAMID}",
        )


def _bottom_up(cfg: CfgNode) -> Iterator[Problem]:
    """Yield contradictions in the network below the plugin's pyramid."""
    name, freeze_at = cfg.MODEL.BOTTOM_UP.NAME, cfg.MODEL.BACKBONE.FREEZE_AT
    if name in PYRAMIDS:
        yield Problem(
            "MODEL.BOTTOM_UP.NAME",
            f"MODEL.BOTTOM_UP.NAME is {name!r}, which already has a pyramid; MODEL.BOTTOM_UP is the network below the "
            "plugin's pyramid",
        )
    if name == "build_retina_timm" and not timm.is_model(cfg.MODEL.TIMM.NAME):
        yield Problem(
            "MODEL.TIMM.NAME",
            f"MODEL.TIMM.NAME is {cfg.MODEL.TIMM.NAME!r}, which is not a model of timm {timm.__version__}",
        )
    if name == "build_retina_torchvision" and not _is_classifier(cfg.MODEL.TORCHVISION.NAME):
        yield Problem(
            "MODEL.TORCHVISION.NAME",
            f"MODEL.TORCHVISION.NAME is {cfg.MODEL.TORCHVISION.NAME!r}, which is not a classifier of torchvision "
            f"{torchvision.__version__}",
        )
    if name in OTHER_NETWORKS and freeze_at:
        yield Problem(
            "MODEL.BACKBONE.FREEZE_AT",
            f"{name} trains the whole network: set MODEL.BACKBONE.FREEZE_AT 0, not {freeze_at}",
        )
    if name in RESNETS:
        yield from _resnet(cfg)
        yield from (_detectron2s_resnet(cfg) if name == "build_resnet_backbone" else _own_resnet(cfg))


def _is_classifier(name: str) -> bool:
    """Return whether torchvision has a classifier of this name."""
    return name in torchvision.models.list_models(module=torchvision.models)


def _resnet(cfg: CfgNode) -> Iterator[Problem]:
    """Yield contradictions in either ResNet."""
    node, freeze_at = cfg.MODEL.RESNETS, cfg.MODEL.BACKBONE.FREEZE_AT
    if node.DEPTH < 50 and (node.NUM_GROUPS, node.WIDTH_PER_GROUP) != (1, 64):
        yield Problem(
            "MODEL.RESNETS.NUM_GROUPS MODEL.RESNETS.WIDTH_PER_GROUP",
            f"ResNet-{node.DEPTH} has no groups: set MODEL.RESNETS.NUM_GROUPS 1 and WIDTH_PER_GROUP 64",
        )
    if not cfg.MODEL.WEIGHTS and (node.NORM == "FrozenBN" or freeze_at > 0):
        yield Problem(
            "MODEL.WEIGHTS MODEL.RESNETS.NORM MODEL.BACKBONE.FREEZE_AT",
            "MODEL.WEIGHTS is empty, but MODEL.RESNETS.NORM is FrozenBN or MODEL.BACKBONE.FREEZE_AT is above 0, so "
            "randomly initialised layers would never be trained. Set MODEL.WEIGHTS, or set MODEL.RESNETS.NORM to BN or "
            "GN and MODEL.BACKBONE.FREEZE_AT to 0",
        )


def _own_resnet(cfg: CfgNode) -> Iterator[Problem]:
    """Yield what the plugin's ResNet does not have."""
    node = cfg.MODEL.RESNETS
    if node.RES5_DILATION != 1 or any(node.DEFORM_ON_PER_STAGE):
        yield Problem(
            "MODEL.RESNETS.RES5_DILATION MODEL.RESNETS.DEFORM_ON_PER_STAGE",
            f"{cfg.MODEL.BOTTOM_UP.NAME} has no dilation or deformable convolutions: leave "
            "MODEL.RESNETS.RES5_DILATION and DEFORM_ON_PER_STAGE at their defaults",
        )


def _detectron2s_resnet(cfg: CfgNode) -> Iterator[Problem]:
    """Yield what does not work with Detectron2's ResNet."""
    node = cfg.MODEL.RESNETS
    if node.RES5_DILATION != 1:
        yield Problem(
            "MODEL.RESNETS.RES5_DILATION",
            "MODEL.RESNETS.RES5_DILATION 2 leaves res5 at stride 16, but the pyramid needs 32",
        )
    if node.DEPTH < 50 and node.RES2_OUT_CHANNELS != 64:
        yield Problem(
            "MODEL.RESNETS.RES2_OUT_CHANNELS",
            f"ResNet-{node.DEPTH} needs MODEL.RESNETS.RES2_OUT_CHANNELS 64; got {node.RES2_OUT_CHANNELS}",
        )
    needed = [f"res{level}" for level in cfg.MODEL.RETINANET.LEVELS if level <= LAST_RESNET_STAGE]
    if not set(needed) <= set(node.OUT_FEATURES):
        yield Problem(
            "MODEL.RESNETS.OUT_FEATURES MODEL.RETINANET.LEVELS",
            f"MODEL.RESNETS.OUT_FEATURES is {list(node.OUT_FEATURES)}, but MODEL.RETINANET.LEVELS needs {needed}; "
            "leave it empty to derive it from the levels",
        )


def _norms(cfg: CfgNode) -> dict[str, str]:
    """Return the normalisations that are in use, by key."""
    norms = {
        "MODEL.FPN.NORM": cfg.MODEL.FPN.NORM,
        "MODEL.RETINANET.NORM": cfg.MODEL.RETINANET.NORM if cfg.MODEL.RETINANET.NUM_CONVS else "",
    }
    if cfg.MODEL.BOTTOM_UP.NAME in RESNETS:
        norms["MODEL.RESNETS.NORM"] = cfg.MODEL.RESNETS.NORM
    if cfg.MODEL.FPN.NAME == "bifpn":
        norms["MODEL.FPN.BIFPN_NORM"] = cfg.MODEL.FPN.BIFPN_NORM
    return norms


def _group_norm(cfg: CfgNode) -> Iterator[Problem]:
    """Yield group normalisations whose groups do not divide the channels."""
    width = cfg.MODEL.FPN.OUT_CHANNELS
    widths = {
        "MODEL.FPN.NORM": ("MODEL.FPN.OUT_CHANNELS", width),
        "MODEL.FPN.BIFPN_NORM": ("MODEL.FPN.OUT_CHANNELS", width),
        "MODEL.RETINANET.NORM": (
            "MODEL.RETINANET.HEAD_CHANNELS or MODEL.FPN.OUT_CHANNELS",
            cfg.MODEL.RETINANET.HEAD_CHANNELS or width,
        ),
        "MODEL.RESNETS.NORM": ("MODEL.RESNETS.STEM_OUT_CHANNELS", cfg.MODEL.RESNETS.STEM_OUT_CHANNELS),
    }
    for key, norm in _norms(cfg).items():
        width_key, channels = widths[key]
        if norm == "GN" and channels % GROUPS:
            yield Problem(
                key, f"{key} GN has {GROUPS} groups, which must divide the channels; {width_key} is {channels}"
            )


def _batch_norm(cfg: CfgNode) -> Iterator[Problem]:
    """Yield batch normalisations of neck and head that may get a single value per channel, which has no variance."""
    at_once = cfg.SOLVER.IMS_PER_BATCH // max(1, cfg.SOLVER.ACCUMULATE)
    shortest, coarsest = min(*cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN), 2 ** cfg.MODEL.RETINANET.LEVELS[-1]
    found = [key for key, norm in _norms(cfg).items() if norm in BATCH_NORMS and key != "MODEL.RESNETS.NORM"]
    if found and at_once == 1 and 0 < shortest <= coarsest:
        yield Problem(
            " ".join([*found, "SOLVER.IMS_PER_BATCH"]),
            f"{' and '.join(found)} BN needs more than one value, but with one image of {shortest} px at a time the "
            f"level of stride {coarsest} can be a single pixel: raise SOLVER.IMS_PER_BATCH or INPUT.MIN_SIZE_TRAIN, "
            "or use GN",
        )


def _anchors(cfg: CfgNode) -> Iterator[Problem]:
    """Yield anchor generators and rows of anchors that do not fit the head or the levels."""
    node, levels = cfg.MODEL.ANCHOR_GENERATOR, len(cfg.MODEL.RETINANET.LEVELS)
    if node.NAME == "RotatedAnchorGenerator":
        yield Problem(
            "MODEL.ANCHOR_GENERATOR.NAME",
            "MODEL.ANCHOR_GENERATOR.NAME RotatedAnchorGenerator makes rotated boxes, which the plugin does not support",
        )
    if node.NAME == "DefaultAnchorGenerator" and not node.SIZES:
        yield Problem(
            "MODEL.ANCHOR_GENERATOR.NAME MODEL.ANCHOR_GENERATOR.SIZES",
            "DefaultAnchorGenerator needs MODEL.ANCHOR_GENERATOR.SIZES; PyramidAnchorGenerator derives them from the "
            "levels",
        )
    if node.NAME not in ("PyramidAnchorGenerator", "DefaultAnchorGenerator"):
        return
    for name, rows, allowed in (("SIZES", node.SIZES, {0, levels}), ("ASPECT_RATIOS", node.ASPECT_RATIOS, {1, levels})):
        key, lengths = f"MODEL.ANCHOR_GENERATOR.{name}", [len(row) for row in rows]
        if len(rows) not in allowed:
            counts = " or ".join(map(str, sorted(allowed)))
            yield Problem(
                key,
                f"{key} has {len(rows)} rows, but MODEL.RETINANET.LEVELS has {levels} levels; set {counts} rows",
            )
        elif len(set(lengths)) > 1:
            yield Problem(
                key,
                f"{key} has a different number of anchors on each level, {lengths}, but the levels share the head",
            )
