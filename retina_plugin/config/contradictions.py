"""Values that are allowed each, and not together."""

from collections.abc import Iterator

import timm
import torch
import torchvision

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import META_ARCH_REGISTRY

from retina_plugin.config.key import nearest
from retina_plugin.config.resolve import LAST_RESNET_STAGE, class_names

META_ARCHITECTURE, DETECTRON2S_RETINANET = "RetinaPluginNet", "RetinaNet"
BATCH_NORMS = ("BN", "SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")
PYRAMIDS = (
    "build_retina_pyramid_backbone",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
    "build_retina_vit_backbone",
)
WITHOUT_PYRAMID = (
    "build_resnet_backbone",
    "build_retina_resnet",
    "build_retina_timm",
    "build_retina_torchvision",
    "build_retina_detectron2",
)
GROUPS = 32
"""Of Detectron2's group normalisation: a divisor of the channels."""

Problem = tuple[str, str]
"""The keys that a problem is about, separated by spaces, and what it is."""


def before_resolving(cfg: CfgNode, wrong: set[str]) -> Iterator[Problem]:
    """What must be right before anything is derived from the config.

    Args:
        cfg: any.
        wrong: keys whose values are not allowed, which are not looked at again.
    """
    if "SOLVER.STEPS" not in wrong and list(cfg.SOLVER.STEPS) != sorted(set(cfg.SOLVER.STEPS)):
        yield "SOLVER.STEPS", f"SOLVER.STEPS is {tuple(cfg.SOLVER.STEPS)}; it must ascend"
    if "MODEL.DEVICE" not in wrong and (problem := _device_problem(cfg.MODEL.DEVICE)):
        yield "MODEL.DEVICE", problem


def after_resolving(cfg: CfgNode, *, training: bool) -> Iterator[Problem]:
    """What contradicts itself in a resolved config.

    Args:
        cfg: resolved.
        training: whether its datasets have to be there.
    """
    yield from _precision(cfg)
    if is_retinanet(cfg):
        yield from _head(cfg)
    if has_own_pyramid(cfg):
        yield from _pyramid(cfg)
        yield from _bottom_up(cfg)
    if is_ours(cfg):
        yield from _backbone(cfg)
    if is_ours(cfg) and has_own_pyramid(cfg):
        yield from _normalisation(cfg)
    if is_retinanet(cfg):
        yield from _anchors(cfg)
    yield from _images(cfg)
    yield from _schedule(cfg)
    yield from _classes(cfg, read=training)
    if training:
        yield from _datasets(cfg)


def _device_problem(device: str) -> str | None:
    """Why nothing can run on a device of that name; CUDA without a GPU is left to who resolves the config."""
    try:
        kind = torch.device(device)
    except RuntimeError:
        return f"MODEL.DEVICE is {device!r}, which torch does not know; give cpu, cuda, cuda:1"
    if kind.type == "cpu" or (kind.type == "cuda" and not torch.cuda.is_available()):
        return None
    if kind.type == "cuda":
        count = torch.cuda.device_count()
        return (
            f"MODEL.DEVICE is {device!r}, but there are {count} GPUs here, from cuda:0"
            if (kind.index or 0) >= count
            else None
        )
    try:
        there = torch.get_device_module(kind).is_available()
    except (RuntimeError, AttributeError):
        there = False
    return None if there else f"MODEL.DEVICE is {device!r}, which is not available here; give cpu or cuda"


def is_ours(cfg: CfgNode) -> bool:
    """Whether the model is the plugin's, or a subclass of it."""
    ours, chosen = META_ARCH_REGISTRY.get(META_ARCHITECTURE), META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    return isinstance(chosen, type) and issubclass(chosen, ours)


def is_retinanet(cfg: CfgNode) -> bool:
    """Whether the model reads the keys of MODEL.RETINANET: the plugin's does, and Detectron2's own RetinaNet."""
    return is_ours(cfg) or cfg.MODEL.META_ARCHITECTURE == DETECTRON2S_RETINANET


def has_own_pyramid(cfg: CfgNode) -> bool:
    """Whether the backbone is the plugin's, which MODEL.BOTTOM_UP, MODEL.FPN and MODEL.RETINANET.LEVELS describe."""
    return cfg.MODEL.BACKBONE.NAME == PYRAMIDS[0]


def _precision(cfg: CfgNode) -> Iterator[Problem]:
    if cfg.SOLVER.AMP.PRECISION == "fp16" and torch.device(cfg.MODEL.DEVICE).type == "cpu":
        yield (
            "SOLVER.AMP.PRECISION MODEL.DEVICE",
            f"SOLVER.AMP.PRECISION fp16 needs a GPU; on {cfg.MODEL.DEVICE} use auto, bf16 or fp32",
        )


def _pyramid(cfg: CfgNode) -> Iterator[Problem]:
    top = [level for level in cfg.MODEL.RETINANET.LEVELS if level > LAST_RESNET_STAGE]
    if cfg.MODEL.FPN.TOP_BLOCK == "none" and top:
        yield (
            "MODEL.FPN.TOP_BLOCK MODEL.RETINANET.LEVELS",
            f"MODEL.FPN.TOP_BLOCK is 'none', but MODEL.RETINANET.LEVELS goes up to {top[-1]}, and the backbone ends at {LAST_RESNET_STAGE}",
        )
    if cfg.MODEL.FPN.NAME == "bifpn" and len(cfg.MODEL.RETINANET.LEVELS) < 2:
        yield (
            "MODEL.FPN.NAME MODEL.RETINANET.LEVELS",
            "MODEL.FPN.NAME bifpn fuses levels, so MODEL.RETINANET.LEVELS needs at least two",
        )


def _head(cfg: CfgNode) -> Iterator[Problem]:
    if cfg.MODEL.RETINANET.CLS_LOSS == "ohem_1to3" and cfg.MODEL.CLS_LOSS.OHEM_BATCH_SIZE < 4:
        yield (
            "MODEL.CLS_LOSS.OHEM_BATCH_SIZE",
            f"MODEL.CLS_LOSS.OHEM_BATCH_SIZE is {cfg.MODEL.CLS_LOSS.OHEM_BATCH_SIZE}; ohem_1to3 needs at least 4, one foreground anchor and three others",
        )
    thresholds, labels = list(cfg.MODEL.RETINANET.IOU_THRESHOLDS), list(cfg.MODEL.RETINANET.IOU_LABELS)
    if len(labels) != len(thresholds) + 1 or thresholds != sorted(thresholds):
        yield (
            "MODEL.RETINANET.IOU_THRESHOLDS MODEL.RETINANET.IOU_LABELS",
            f"MODEL.RETINANET.IOU_THRESHOLDS must ascend and IOU_LABELS have one entry more; got {thresholds} and {labels}",
        )


def _backbone(cfg: CfgNode) -> Iterator[Problem]:
    if cfg.MODEL.BACKBONE.NAME in WITHOUT_PYRAMID:
        yield (
            "MODEL.BACKBONE.NAME",
            f"MODEL.BACKBONE.NAME is {cfg.MODEL.BACKBONE.NAME!r}, which yields no p{cfg.MODEL.RETINANET.LEVELS[0]}; set MODEL.BOTTOM_UP.NAME to it and MODEL.BACKBONE.NAME to {PYRAMIDS[0]}",
        )


def _bottom_up(cfg: CfgNode) -> Iterator[Problem]:
    node, name, freeze_at = cfg.MODEL.RESNETS, cfg.MODEL.BOTTOM_UP.NAME, cfg.MODEL.BACKBONE.FREEZE_AT
    if name in PYRAMIDS:
        yield (
            "MODEL.BOTTOM_UP.NAME",
            f"MODEL.BOTTOM_UP.NAME is {name!r}, which has a pyramid of its own; MODEL.BOTTOM_UP is what the plugin's stands on",
        )
    if name == "build_retina_timm" and not timm.is_model(cfg.MODEL.TIMM.NAME):
        yield (
            "MODEL.TIMM.NAME",
            f"MODEL.TIMM.NAME is {cfg.MODEL.TIMM.NAME!r}, which timm {timm.__version__} does not have",
        )
    if name == "build_retina_torchvision" and cfg.MODEL.TORCHVISION.NAME not in torchvision.models.list_models(
        module=torchvision.models
    ):
        yield (
            "MODEL.TORCHVISION.NAME",
            f"MODEL.TORCHVISION.NAME is {cfg.MODEL.TORCHVISION.NAME!r}, which torchvision {torchvision.__version__} does not have among its classifiers",
        )
    if name in ("build_retina_timm", "build_retina_torchvision", "build_retina_detectron2") and freeze_at:
        yield (
            "MODEL.BACKBONE.FREEZE_AT",
            f"{name} trains the whole network: set MODEL.BACKBONE.FREEZE_AT 0, not {freeze_at}",
        )
    if name not in ("build_retina_resnet", "build_resnet_backbone"):
        return
    if node.DEPTH < 50 and (node.NUM_GROUPS, node.WIDTH_PER_GROUP) != (1, 64):
        yield (
            "MODEL.RESNETS.NUM_GROUPS MODEL.RESNETS.WIDTH_PER_GROUP",
            f"ResNet-{node.DEPTH} has no groups: set MODEL.RESNETS.NUM_GROUPS 1 and WIDTH_PER_GROUP 64",
        )
    if (node.RES5_DILATION != 1 or any(node.DEFORM_ON_PER_STAGE)) and name == "build_retina_resnet":
        yield (
            "MODEL.RESNETS.RES5_DILATION MODEL.RESNETS.DEFORM_ON_PER_STAGE",
            f"{name} has no dilation or deformable convolutions: leave MODEL.RESNETS.RES5_DILATION and DEFORM_ON_PER_STAGE alone",
        )
    if node.RES5_DILATION != 1 and name != "build_retina_resnet":
        yield (
            "MODEL.RESNETS.RES5_DILATION",
            "MODEL.RESNETS.RES5_DILATION 2 leaves res5 at stride 16, but the pyramid needs 32",
        )
    if node.DEPTH < 50 and node.RES2_OUT_CHANNELS != 64 and name != "build_retina_resnet":
        yield (
            "MODEL.RESNETS.RES2_OUT_CHANNELS",
            f"ResNet-{node.DEPTH} needs MODEL.RESNETS.RES2_OUT_CHANNELS 64; got {node.RES2_OUT_CHANNELS}",
        )
    needed = [f"res{level}" for level in cfg.MODEL.RETINANET.LEVELS if level <= LAST_RESNET_STAGE]
    if name != "build_retina_resnet" and not set(needed) <= set(node.OUT_FEATURES):
        yield (
            "MODEL.RESNETS.OUT_FEATURES MODEL.RETINANET.LEVELS",
            f"MODEL.RESNETS.OUT_FEATURES is {list(node.OUT_FEATURES)}, but MODEL.RETINANET.LEVELS needs {needed}; leave it empty to let it follow",
        )
    if not cfg.MODEL.WEIGHTS and (node.NORM == "FrozenBN" or freeze_at > 0):
        yield (
            "MODEL.WEIGHTS MODEL.RESNETS.NORM MODEL.BACKBONE.FREEZE_AT",
            "MODEL.WEIGHTS is empty, but MODEL.RESNETS.NORM is FrozenBN or MODEL.BACKBONE.FREEZE_AT above 0: random layers would never be "
            "trained. Give weights, or set MODEL.RESNETS.NORM to BN or GN and MODEL.BACKBONE.FREEZE_AT to 0",
        )


def _normalisation(cfg: CfgNode) -> Iterator[Problem]:
    width, head, resnet = (
        cfg.MODEL.FPN.OUT_CHANNELS,
        cfg.MODEL.RETINANET.HEAD_CHANNELS or cfg.MODEL.FPN.OUT_CHANNELS,
        cfg.MODEL.RESNETS,
    )
    widths = {
        "MODEL.FPN.NORM": ("MODEL.FPN.OUT_CHANNELS", width),
        "MODEL.RETINANET.NORM": ("MODEL.RETINANET.HEAD_CHANNELS or MODEL.FPN.OUT_CHANNELS", head),
    }
    norms = {
        "MODEL.FPN.NORM": cfg.MODEL.FPN.NORM,
        "MODEL.RETINANET.NORM": cfg.MODEL.RETINANET.NORM if cfg.MODEL.RETINANET.NUM_CONVS else "",
    }
    if cfg.MODEL.BOTTOM_UP.NAME in ("build_retina_resnet", "build_resnet_backbone"):
        norms["MODEL.RESNETS.NORM"], widths["MODEL.RESNETS.NORM"] = (
            resnet.NORM,
            ("MODEL.RESNETS.STEM_OUT_CHANNELS", resnet.STEM_OUT_CHANNELS),
        )
    if cfg.MODEL.FPN.NAME == "bifpn":
        norms["MODEL.FPN.BIFPN_NORM"], widths["MODEL.FPN.BIFPN_NORM"] = (
            cfg.MODEL.FPN.BIFPN_NORM,
            widths["MODEL.FPN.NORM"],
        )
    for key, norm in norms.items():
        width_key, channels = widths[key]
        if norm == "GN" and channels % GROUPS:
            yield key, f"{key} GN has {GROUPS} groups, which must divide the channels; {width_key} is {channels}"
    at_once = cfg.SOLVER.IMS_PER_BATCH // max(1, cfg.SOLVER.ACCUMULATE)
    shortest, coarsest = min(*cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN), 2 ** cfg.MODEL.RETINANET.LEVELS[-1]
    if (
        at_once == 1
        and 0 < shortest <= coarsest
        and (found := [key for key, norm in norms.items() if norm in BATCH_NORMS and key != "MODEL.RESNETS.NORM"])
    ):
        yield (
            " ".join([*found, "SOLVER.IMS_PER_BATCH"]),
            f"{' and '.join(found)} BN needs more than one value, but of one image of {shortest} px at once the level of stride {coarsest} can be a single pixel: "
            "raise SOLVER.IMS_PER_BATCH or INPUT.MIN_SIZE_TRAIN, or use GN",
        )


def _anchors(cfg: CfgNode) -> Iterator[Problem]:
    node, levels = cfg.MODEL.ANCHOR_GENERATOR, len(cfg.MODEL.RETINANET.LEVELS)
    if node.NAME == "RotatedAnchorGenerator":
        yield (
            "MODEL.ANCHOR_GENERATOR.NAME",
            "MODEL.ANCHOR_GENERATOR.NAME RotatedAnchorGenerator makes turned boxes, which no part of the plugin knows",
        )
    if node.NAME == "DefaultAnchorGenerator" and not node.SIZES:
        yield (
            "MODEL.ANCHOR_GENERATOR.NAME MODEL.ANCHOR_GENERATOR.SIZES",
            "DefaultAnchorGenerator needs MODEL.ANCHOR_GENERATOR.SIZES; PyramidAnchorGenerator lets them follow from the levels",
        )
    if node.NAME not in ("PyramidAnchorGenerator", "DefaultAnchorGenerator"):
        return
    for key, rows, allowed in (("SIZES", node.SIZES, {0, levels}), ("ASPECT_RATIOS", node.ASPECT_RATIOS, {1, levels})):
        if len(rows) not in allowed:
            yield (
                f"MODEL.ANCHOR_GENERATOR.{key}",
                f"MODEL.ANCHOR_GENERATOR.{key} has {len(rows)} rows, but MODEL.RETINANET.LEVELS {levels} levels; give {' or '.join(map(str, sorted(allowed)))} rows",
            )
        elif len({len(row) for row in rows}) > 1:
            yield (
                f"MODEL.ANCHOR_GENERATOR.{key}",
                f"MODEL.ANCHOR_GENERATOR.{key} gives levels different numbers of anchors, {[len(row) for row in rows]}, but the head is shared over levels",
            )


def _images(cfg: CfgNode) -> Iterator[Problem]:
    channels = 1 if cfg.INPUT.FORMAT == "L" else 3
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(cfg.MODEL[key]) != channels:
            yield (
                f"MODEL.{key}",
                f"MODEL.{key} has {len(cfg.MODEL[key])} values, but images in INPUT.FORMAT {cfg.INPUT.FORMAT} have {channels} channels",
            )
    values = list(cfg.INPUT.VALUE_RANGE)
    if values and (len(values) != 2 or values[0] >= values[1]):
        yield "INPUT.VALUE_RANGE", f"INPUT.VALUE_RANGE is {tuple(values)}; it must be (low, high), ascending, or empty"
    sizes = list(cfg.INPUT.MIN_SIZE_TRAIN)
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and (len(sizes) != 2 or sizes[0] > sizes[1] or sizes[0] < 1):
        yield (
            "INPUT.MIN_SIZE_TRAIN INPUT.MIN_SIZE_TRAIN_SAMPLING",
            f"INPUT.MIN_SIZE_TRAIN_SAMPLING range draws between two sizes above 0; INPUT.MIN_SIZE_TRAIN is {tuple(sizes)}",
        )
    kind, size = cfg.INPUT.CROP.TYPE, list(cfg.INPUT.CROP.SIZE)
    if kind.startswith("relative") and max(size) > 1:
        yield (
            "INPUT.CROP.SIZE INPUT.CROP.TYPE",
            f"INPUT.CROP.SIZE is {size}; with INPUT.CROP.TYPE {kind} it holds shares of the image, at most 1",
        )
    if kind.startswith("absolute") and any(x < 1 or x != int(x) for x in size):
        yield (
            "INPUT.CROP.SIZE INPUT.CROP.TYPE",
            f"INPUT.CROP.SIZE is {size}; with INPUT.CROP.TYPE {kind} it holds pixels, integers of at least 1",
        )
    metric = cfg.TEST.BEST_METRIC
    if metric and (metric.count("/") < 1 or not all(metric.split("/"))):
        yield "TEST.BEST_METRIC", f"TEST.BEST_METRIC is {metric!r}; it must be task/metric, such as bbox/AP, or empty"
    if cfg.TEST.EARLY_STOP_PATIENCE and not (cfg.TEST.BEST_METRIC and (cfg.TEST.EVAL_PERIOD or cfg.SOLVER.EPOCHS)):
        yield (
            "TEST.EARLY_STOP_PATIENCE",
            "TEST.EARLY_STOP_PATIENCE needs TEST.BEST_METRIC and evaluations during training (TEST.EVAL_PERIOD, or SOLVER.EPOCHS)",
        )


def _schedule(cfg: CfgNode) -> Iterator[Problem]:
    solver = cfg.SOLVER
    if solver.IMS_PER_BATCH % solver.ACCUMULATE:
        yield (
            "SOLVER.ACCUMULATE SOLVER.IMS_PER_BATCH",
            f"SOLVER.ACCUMULATE must divide SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH}; got {solver.ACCUMULATE}",
        )
    if solver.LR_SCHEDULER_NAME == "OneCycleLR" and not 0 < solver.WARMUP_ITERS < solver.MAX_ITER and not solver.EPOCHS:
        yield (
            "SOLVER.WARMUP_ITERS SOLVER.MAX_ITER SOLVER.LR_SCHEDULER_NAME",
            f"OneCycleLR rises during SOLVER.WARMUP_ITERS, which must lie between 0 and MAX_ITER {solver.MAX_ITER}; got {solver.WARMUP_ITERS}",
        )
    if solver.LR_SCHEDULER_NAME in ("OneCycleLR", "WarmupCosineLR") and solver.BASE_LR_END > solver.BASE_LR:
        yield (
            "SOLVER.BASE_LR_END SOLVER.BASE_LR",
            f"SOLVER.BASE_LR_END {solver.BASE_LR_END} is above SOLVER.BASE_LR {solver.BASE_LR}; {solver.LR_SCHEDULER_NAME} falls",
        )
    if solver.CLIP_GRADIENTS.ENABLED and solver.CLIP_GRADIENTS.CLIP_TYPE == "value" and solver.FREEZE_ITERS:
        yield (
            "SOLVER.CLIP_GRADIENTS.CLIP_TYPE SOLVER.FREEZE_ITERS",
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE value cannot clip a network that SOLVER.FREEZE_ITERS {solver.FREEZE_ITERS} keeps without gradients; set CLIP_TYPE norm",
        )
    if solver.EMA_DECAY and solver.SWA_ITERS:
        yield (
            "SOLVER.EMA_DECAY SOLVER.SWA_ITERS",
            "SOLVER.EMA_DECAY and SOLVER.SWA_ITERS are two averages of the weights: give one of them",
        )
    if solver.PROFILE_ITER > solver.MAX_ITER and not solver.EPOCHS:
        yield (
            "SOLVER.PROFILE_ITER SOLVER.MAX_ITER",
            f"SOLVER.PROFILE_ITER is {solver.PROFILE_ITER}, but training ends at SOLVER.MAX_ITER {solver.MAX_ITER}",
        )
    if solver.FREEZE_ITERS and not has_own_pyramid(cfg):
        yield (
            "SOLVER.FREEZE_ITERS MODEL.BACKBONE.NAME",
            f"SOLVER.FREEZE_ITERS keeps the network below the plugin's pyramid as it is; MODEL.BACKBONE.NAME is {cfg.MODEL.BACKBONE.NAME}",
        )
    if solver.OPTIMIZER == "SGD" and solver.NESTEROV and solver.MOMENTUM == 0:
        yield "SOLVER.NESTEROV SOLVER.MOMENTUM", "SOLVER.NESTEROV needs SOLVER.MOMENTUM above 0"


def _classes(cfg: CfgNode, *, read: bool) -> Iterator[Problem]:
    """Disagreements between NUM_CLASSES and the datasets, and between the datasets."""
    key = "MODEL.RETINANET.NUM_CLASSES" if is_retinanet(cfg) else "MODEL.ROI_HEADS.NUM_CLASSES"
    count, seen = cfg.MODEL.RETINANET.NUM_CLASSES if is_retinanet(cfg) else cfg.MODEL.ROI_HEADS.NUM_CLASSES, {}
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        try:
            classes = class_names(name, read=read)
        except ValueError as error:
            yield "DATASETS.TRAIN DATASETS.TEST", str(error)
            continue
        if classes is None:
            continue
        seen[name] = classes
        if count not in (0, len(classes)):
            shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            yield (
                key,
                f"{key} is {count}, but the dataset {name} has {len(classes)} classes ({shown}); leave it out, or 0, to take it from the dataset",
            )
    if count == 0 and not seen:
        names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
        yield (
            "DATASETS.TRAIN",
            f"{key} is not set and none of DATASETS {names} is a registered dataset with class names",
        )
    first = next(iter(seen), None)
    for name, other in seen.items():
        if other != seen[first]:
            yield (
                "DATASETS.TRAIN DATASETS.TEST",
                f"the datasets {first} and {name} have different classes: {seen[first]} and {other}",
            )


def _datasets(cfg: CfgNode) -> Iterator[Problem]:
    """What a training lacks."""
    if not cfg.DATASETS.TRAIN:
        yield "DATASETS.TRAIN", "DATASETS.TRAIN is empty: there is nothing to train on"
    yield from unknown_datasets(cfg, ("TRAIN", "TEST", "FINAL_TEST"))


def unknown_datasets(cfg: CfgNode, keys: tuple[str, ...]) -> Iterator[Problem]:
    """Datasets of these keys of DATASETS that are not registered."""
    for key in keys:
        if unknown := [name for name in cfg.DATASETS[key] if name not in DatasetCatalog]:
            near = nearest(unknown[0], DatasetCatalog.list())
            yield (
                f"DATASETS.{key}",
                f"DATASETS.{key} names {', '.join(unknown)}, which is not registered"
                + (f"; did you mean {near}?" if near else ""),
            )
