"""What is derived from a config, and the mistakes that are caught before anything is built."""

import difflib
import logging

import torch

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin.config_pixels import resolve_pixels

logger = logging.getLogger(__name__)

META_ARCHITECTURE = "RetinaPluginNet"

CONFIG_VERSION = 1
"""Value of NEEDS_IMPORT_RETINA_PLUGIN: the version of the plugin's keys."""

RCNN_KEYS = {
    "MODEL.ROI_HEADS.NUM_CLASSES": "MODEL.RETINANET.NUM_CLASSES (left out, it follows from the dataset)",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "MODEL.RETINANET.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": "MODEL.RETINANET.NMS_THRESH_TEST",
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": "MODEL.RETINANET.IOU_THRESHOLDS",
    "MODEL.ROI_HEADS.NAME": "MODEL.RETINANET.HEAD_NAME",
    "MODEL.RPN.NMS_THRESH": "MODEL.RETINANET.NMS_THRESH_TEST",
    "MODEL.RPN.IOU_THRESHOLDS": "MODEL.RETINANET.IOU_THRESHOLDS",
}
"""Keys of R-CNN that people set for a RetinaNet, which does not read them, and the ones they mean."""

CHOICES = {
    "INPUT.READER": ("opencv", "detectron2"),
    "TEST.EVALUATOR": ("hotcoco", "detectron2"),
    "DATASETS.ON_PROBLEM": ("drop", "refuse"),
    "MODEL.PIXELS_FROM": ("weights", "config"),
    "SOLVER.OPTIMIZER": ("SGD", "AdamW"),
    "SOLVER.AMP.PRECISION": ("auto", "fp32", "bf16", "fp16"),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR", "OneCycleLR"),
}
"""Keys that choose one of a few words and have no registry."""


def get_key(cfg: CfgNode, key: str) -> object:
    """Value of a dotted key, such as "MODEL.RETINANET.LEVELS"."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def all_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """Dotted names of all values below ``cfg``, and of its empty nodes."""
    keys = []
    for name, value in cfg.items():
        keys += all_keys(value, f"{prefix}{name}.") if isinstance(value, CfgNode) and value else [prefix + name]
    return keys


def unknown_keys_message(cfg: CfgNode, loaded: CfgNode, opts: list[str]) -> str | None:
    """Name every key of a file and of the command line that ``cfg`` does not know, with the nearest it does.

    Returns:
        The message, or None if all is well.
    """
    if len(opts) % 2:
        raise ValueError(f"config options come in pairs KEY VALUE; got {len(opts)} words: {' '.join(opts)}")
    known = all_keys(cfg)
    nodes = {key.rsplit(".", n)[0] for key in known for n in range(1, key.count(".") + 1)}
    unknown = [key for key in [*all_keys(loaded), *opts[0::2]] if key not in known and key not in nodes]
    lines = []
    for key in unknown:
        by_leaf = [k for k in known if k.rsplit(".")[-1] == key.rsplit(".")[-1]]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.75) or by_leaf[:1] or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        lines.append(f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else ""))
    return "\n  ".join(["", *lines]) if lines else None


def resolve_config(cfg: CfgNode) -> None:
    """Fill in what follows from the machine, the dataset and the batch size, in place, and log it.

    MODEL.DEVICE "cuda" becomes "cpu" where there is no GPU; MODEL.RETINANET.NUM_CLASSES 0 becomes the number of classes of DATASETS.TRAIN (else TEST);
    the pixels follow the weights, see :func:`retina_plugin.config_pixels.resolve_pixels`; the
    schedule is scaled by :func:`scale_schedule` and :func:`resolve_epochs`. A resolved config stays as it is.
    """
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.info("no GPU here: MODEL.DEVICE %s -> cpu", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    if cfg.MODEL.RETINANET.NUM_CLASSES == 0:
        for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
            if classes := MetadataCatalog.get(name).get("thing_classes"):
                cfg.MODEL.RETINANET.NUM_CLASSES = len(classes)
                logger.info("MODEL.RETINANET.NUM_CLASSES = %d, from the classes of %s", len(classes), name)
                break
    resolve_pixels(cfg)
    scale_schedule(cfg)
    resolve_epochs(cfg)


def scale_schedule(cfg: CfgNode) -> None:
    """Scale learning rate and schedule from SOLVER.REFERENCE_BATCH_SIZE to SOLVER.IMS_PER_BATCH, in place.

    With r = IMS_PER_BATCH / REFERENCE_BATCH_SIZE the learning rates are multiplied by r, and every
    count of iterations is divided by it, so that as many images are seen. The reference becomes
    IMS_PER_BATCH, so that a saved config is not scaled again.

    Source: Goyal et al. 2017, *Accurate, Large Minibatch SGD*, section 2.1 (linear scaling rule).
    """
    solver = cfg.SOLVER
    reference, batch = cfg.SOLVER.REFERENCE_BATCH_SIZE, solver.IMS_PER_BATCH
    if reference <= 0 or reference == batch:
        return
    ratio = batch / reference
    changes = []
    iterations = [(solver, key, 1 / ratio) for key in ("MAX_ITER", "STEPS", "WARMUP_ITERS", "CHECKPOINT_PERIOD")] + [(cfg.TEST, "EVAL_PERIOD", 1 / ratio)]
    for node, key, factor in (
        (solver, "BASE_LR", ratio),
        (solver, "BASE_LR_END", ratio),
        *([] if cfg.SOLVER.EPOCHS else iterations),
    ):
        old = node[key]
        if isinstance(old, float):
            node[key] = old * factor
        elif isinstance(old, int):
            node[key] = max(1, round(old * factor)) if old else 0
        else:
            node[key] = tuple(round(x * factor) for x in old)
        if node[key] != old:
            changes.append(f"{key} {old} -> {node[key]}")
    cfg.SOLVER.REFERENCE_BATCH_SIZE = batch
    logger.info("batch of %d instead of %d, so: %s", batch, reference, ", ".join(changes))


def resolve_epochs(cfg: CfgNode) -> None:
    """Turn SOLVER.EPOCHS and the keys beside it into iterations, in place, and log it; reads DATASETS.TRAIN to count its images.

    EPOCHS becomes 0, so that a saved config keeps its iterations wherever it is read.
    """
    solver, epochs = cfg.SOLVER, cfg.SOLVER.EPOCHS
    if epochs <= 0:
        return
    records = [record for name in cfg.DATASETS.TRAIN if name in DatasetCatalog for record in DatasetCatalog.get(name)]
    with_objects = sum(any(not x.get("iscrowd", 0) for x in record.get("annotations", [])) for record in records)
    images = with_objects + (0 if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS else round((len(records) - with_objects) * cfg.DATALOADER.EMPTY_IMAGES))
    one = images / solver.IMS_PER_BATCH
    solver.MAX_ITER = max(1, round(epochs * one))
    solver.STEPS = tuple(round(solver.MAX_ITER * share) for share in (2 / 3, 8 / 9))
    solver.WARMUP_ITERS = max(1, min(round(cfg.SOLVER.WARMUP_EPOCHS * one), solver.MAX_ITER // 4))
    solver.FREEZE_ITERS = round(cfg.SOLVER.FREEZE_EPOCHS * one)
    cfg.TEST.EVAL_PERIOD = solver.CHECKPOINT_PERIOD = max(1, round(cfg.TEST.EVAL_EPOCHS * one))
    cfg.SOLVER.EPOCHS = 0
    logger.info("%d epochs of %d images are %d iterations, evaluated every %d", epochs, images, solver.MAX_ITER, cfg.TEST.EVAL_PERIOD)


def check_config(cfg: CfgNode) -> None:
    """Refuse a config that would train something else than was meant.

    Raises:
        ValueError: with every problem found, one a line.
    """
    defaults = get_cfg()
    problems = []
    if cfg.NEEDS_IMPORT_RETINA_PLUGIN != CONFIG_VERSION:
        problems.append(f"the config is of version {cfg.NEEDS_IMPORT_RETINA_PLUGIN}; this plugin reads version {CONFIG_VERSION}")
    if cfg.MODEL.META_ARCHITECTURE != META_ARCHITECTURE:
        problems.append(f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE!r}; the plugin's is {META_ARCHITECTURE!r} (start from Base-RetinaNet.yaml)")
    for key, meant in RCNN_KEYS.items():
        if get_key(cfg, key) != get_key(defaults, key):
            problems.append(f"{key} is set to {get_key(cfg, key)!r}, which has no effect on a RetinaNet; set {meant}")
    for key, choices in CHOICES.items():
        if get_key(cfg, key) not in choices:
            problems.append(f"{key} is {get_key(cfg, key)!r}; it must be one of {', '.join(choices)}")
    problems += _class_problems(cfg)
    if not 0 <= cfg.MODEL.RETINANET.SCORE_THRESH_TEST < 1:
        problems.append(f"MODEL.RETINANET.SCORE_THRESH_TEST must be at least 0 and below 1; got {cfg.MODEL.RETINANET.SCORE_THRESH_TEST}")
    if cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.AMP.PRECISION == "fp16" and not cfg.MODEL.DEVICE.startswith("cuda"):
        problems.append(f"SOLVER.AMP.PRECISION fp16 needs a GPU; on {cfg.MODEL.DEVICE} use auto, bf16 or fp32")
    if not 0 <= cfg.SOLVER.EMA_DECAY < 1:
        problems.append(f"SOLVER.EMA_DECAY must be at least 0 and below 1; got {cfg.SOLVER.EMA_DECAY}")
    if cfg.SOLVER.ACCUMULATE < 1 or cfg.SOLVER.IMS_PER_BATCH % max(1, cfg.SOLVER.ACCUMULATE):
        problems.append(f"SOLVER.ACCUMULATE must be at least 1 and divide SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}; got {cfg.SOLVER.ACCUMULATE}")
    shares = {key: get_key(cfg, key) for key in ("DATALOADER.EMPTY_IMAGES", "INPUT.MOSAIC", "INPUT.MIXUP")}
    problems += [f"{key} must be from 0 to 1; got {value}" for key, value in shares.items() if not 0 <= value <= 1]
    if cfg.TEST.EARLY_STOP_PATIENCE and not (cfg.TEST.BEST_METRIC and cfg.TEST.EVAL_PERIOD):
        problems.append("TEST.EARLY_STOP_PATIENCE needs TEST.BEST_METRIC and evaluations during training (TEST.EVAL_PERIOD, or SOLVER.EPOCHS)")
    if cfg.TEST.DETECTIONS_PER_IMAGE < 1:
        problems.append(f"TEST.DETECTIONS_PER_IMAGE must be at least 1; got {cfg.TEST.DETECTIONS_PER_IMAGE}")
    if cfg.SOLVER.IMS_PER_BATCH < 1 or cfg.SOLVER.MAX_ITER < 1:
        problems.append(f"SOLVER.IMS_PER_BATCH and MAX_ITER must be at least 1; got {cfg.SOLVER.IMS_PER_BATCH} and {cfg.SOLVER.MAX_ITER}")
    resnet = cfg.MODEL.BOTTOM_UP.NAME == "build_retina_resnet"
    if resnet and not cfg.MODEL.WEIGHTS and (cfg.MODEL.RESNETS.NORM == "FrozenBN" or cfg.MODEL.BACKBONE.FREEZE_AT > 0):
        problems.append(
            "MODEL.WEIGHTS is empty, but MODEL.RESNETS.NORM is FrozenBN or MODEL.BACKBONE.FREEZE_AT above 0: random layers would never be "
            "trained. Give weights, or set MODEL.RESNETS.NORM to BN or GN and MODEL.BACKBONE.FREEZE_AT to 0"
        )
    if problems:
        raise ValueError("\n  ".join(["the configuration cannot work:", *problems]))


def _class_problems(cfg: CfgNode) -> list[str]:
    """Disagreements between NUM_CLASSES and the datasets, and between the datasets."""
    count, seen, problems = cfg.MODEL.RETINANET.NUM_CLASSES, {}, []
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        classes = MetadataCatalog.get(name).get("thing_classes")
        if classes is None:
            continue
        seen[name] = list(classes)
        if count not in (0, len(classes)):
            shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            problems.append(f"MODEL.RETINANET.NUM_CLASSES is {count}, but the dataset {name} has {len(classes)} classes ({shown}); leave it out, or 0, to take it from the dataset")
    if count == 0 and not seen:
        names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
        problems.append(f"MODEL.RETINANET.NUM_CLASSES is not set and none of DATASETS {names} is a registered dataset with class names")
    first = next(iter(seen), None)
    problems += [f"the datasets {first} and {name} have different classes: {seen[first]} and {other}" for name, other in seen.items() if other != seen[first]]
    return problems
