"""Values that are derived from a config whose values are allowed: device, classes, pixels, schedule."""

import contextlib
import logging
from collections.abc import Callable, Iterator

import torch

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin.config.detectron2_keys import untouched
from retina_plugin.config.key import all_keys, get_key
from retina_plugin.config.pixels import resolve_pixels

logger = logging.getLogger(__name__)

ON_DATASET: list[Callable[[str], None]] = []
"""Functions of other parts that register the dataset that a name describes, such as a part of a different dataset.

``retina_plugin/__init__.py`` adds them.
"""

LAST_RESNET_STAGE = 5

WITH_REGIONS = ("GeneralizedRCNN", "ProposalNetwork")
"""Detectors of Detectron2 that start with region proposals."""

RESNET_PYRAMIDS = ("build_resnet_fpn_backbone", "build_retinanet_resnet_fpn_backbone")
"""Detectron2's own pyramids on a ResNet."""


OWN_BACKBONES = ("build_retina_pyramid_backbone", "build_retina_vit_backbone")
"""The plugin's networks with a pyramid."""


def resolve_config(cfg: CfgNode) -> None:
    """Fill in what follows from the machine, the dataset, the weights and the batch size, in place, and log it.

    - MODEL.DEVICE "cuda" becomes "cpu" if there is no GPU.
    - SOLVER.AMP.PRECISION becomes a precision that the CPU is fast at.
    - The number of classes becomes that of DATASETS.TRAIN (else TEST); see :func:`resolve_classes`.
    - The feature maps of Detectron2's own networks follow from the levels.
    - The pixels follow the weights; see :func:`retina_plugin.config.pixels.resolve_pixels`.
    - The schedule is scaled by :func:`scale_schedule` and :func:`resolve_epochs`, and cut by :func:`drop_late_steps`.

    A resolved config does not change.

    Args:
        cfg: A config whose values are allowed.
    """
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.info("no GPU available: MODEL.DEVICE %s -> cpu", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *cfg.DATASETS.FINAL_TEST):
        for look in ON_DATASET:
            look(name)
    resolve_classes(cfg)
    if (cfg.TEST.EVALUATOR, cfg.TEST.BEST_METRIC) == ("voc", "bbox/AP"):
        cfg.TEST.BEST_METRIC = "bbox/AP50"
        logger.info("TEST.BEST_METRIC bbox/AP -> bbox/AP50, the metric of TEST.EVALUATOR voc")
    resolve_detectron2s_own(cfg)
    resolve_precision_of_a_cpu(cfg)
    resolve_bottom_up(cfg)
    if cfg.INPUT.CROP.TYPE.startswith("absolute") and all(x == int(x) for x in cfg.INPUT.CROP.SIZE):
        cfg.INPUT.CROP.SIZE = [int(x) for x in cfg.INPUT.CROP.SIZE]  # pixels; Detectron2 needs integers
    resolve_pixels(cfg)
    scale_schedule(cfg)
    resolve_epochs(cfg)
    drop_late_steps(cfg)


def resolve_classes(cfg: CfgNode) -> None:
    """Take the number of classes from the first dataset with class names, in place.

    Sets MODEL.RETINANET.NUM_CLASSES if it is 0; for Detectron2's detectors with region proposals, sets
    MODEL.ROI_HEADS.NUM_CLASSES if it has Detectron2's default, 80.
    """
    key, node, unset = "MODEL.RETINANET.NUM_CLASSES", cfg.MODEL.RETINANET, 0
    if cfg.MODEL.META_ARCHITECTURE in WITH_REGIONS:
        key, node = "MODEL.ROI_HEADS.NUM_CLASSES", cfg.MODEL.ROI_HEADS
        unset = untouched().MODEL.ROI_HEADS.NUM_CLASSES
    if unset != node.NUM_CLASSES:
        return
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if classes := class_names(name, read=True):
            if len(classes) != node.NUM_CLASSES:
                node.NUM_CLASSES = len(classes)
                logger.info("%s = %d, from the classes of %s", key, len(classes), name)
            break


def resolve_detectron2s_own(cfg: CfgNode) -> None:
    """Set the feature names for Detectron2's detectors and pyramids to those of MODEL.RETINANET.LEVELS, in place.

    Keys that are neither empty nor Detectron2's default keep their values.
    """
    levels = cfg.MODEL.RETINANET.LEVELS
    names = [f"p{level}" for level in levels]
    changes: list[tuple[CfgNode, str, list[str]]] = []
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" and not cfg.MODEL.RETINANET.IN_FEATURES:
        changes.append((cfg.MODEL.RETINANET, "IN_FEATURES", names))
    if cfg.MODEL.BACKBONE.NAME in RESNET_PYRAMIDS:
        below = [f"res{level}" for level in levels if level <= LAST_RESNET_STAGE]
        keys = ((cfg.MODEL.FPN, "IN_FEATURES"), (cfg.MODEL.RESNETS, "OUT_FEATURES"))
        changes += [(node, key, below) for node, key in keys if not node[key]]
    if cfg.MODEL.META_ARCHITECTURE in WITH_REGIONS and cfg.MODEL.BACKBONE.NAME in OWN_BACKBONES:
        defaults = untouched().MODEL
        if cfg.MODEL.RPN.IN_FEATURES == defaults.RPN.IN_FEATURES:
            changes.append((cfg.MODEL.RPN, "IN_FEATURES", names))
        if cfg.MODEL.ROI_HEADS.IN_FEATURES == defaults.ROI_HEADS.IN_FEATURES:
            pooled = [f"p{level}" for level in levels if level <= LAST_RESNET_STAGE]
            changes.append((cfg.MODEL.ROI_HEADS, "IN_FEATURES", pooled))
    for node, key, value in changes:
        setattr(node, key, value)
        logger.info("%s = %s, from MODEL.RETINANET.LEVELS", key, value)


def unresolved(cfg: CfgNode, part: str | tuple[str, ...] = "") -> list[str]:
    """Return what :func:`resolve_config` would change, as "KEY old -> new".

    Args:
        cfg: A config whose values are allowed; it is not modified.
        part: Prefix of the keys to compare, such as "MODEL.", or several prefixes.
    """
    resolved = cfg.clone()
    resolved.defrost()
    with not_said():
        resolve_config(resolved)
    changed = [key for key in all_keys(cfg) if key.startswith(part) and get_key(cfg, key) != get_key(resolved, key)]
    return [f"{key} {get_key(cfg, key)} -> {get_key(resolved, key)}" for key in changed]


@contextlib.contextmanager
def not_said() -> Iterator[None]:
    """Disable the log of this module, for changes that are only tried."""
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def class_names(dataset: str, *, read: bool = False) -> list[str] | None:
    """Return the class names of a registered dataset, or None if it has none or is not registered.

    Args:
        dataset: Name of the dataset.
        read: Whether to read the dataset if its class names are not known otherwise, as with
            ``register_coco_instances``.

    Raises:
        ValueError: If the dataset cannot be read.
    """
    metadata = MetadataCatalog.get(dataset)
    if read and metadata.get("thing_classes") is None and dataset in DatasetCatalog:
        try:
            DatasetCatalog.get(dataset)
        except Exception as error:  # a third-party function may raise anything
            raise ValueError(f"the dataset {dataset} cannot be read: {type(error).__name__}: {error}") from error
    names = metadata.get("thing_classes")
    return None if names is None else list(names)


def resolve_precision_of_a_cpu(cfg: CfgNode) -> None:
    """On a CPU, store the precision in SOLVER.AMP.PRECISION alone and set SOLVER.AMP.ENABLED to False, in place.

    If ENABLED is True, Detectron2's ``DefaultTrainer`` uses its ``AMPTrainer``, which fails without CUDA. PRECISION
    auto becomes bf16 or fp32; if ENABLED is False it becomes fp32, as on a GPU.
    """
    amp = cfg.SOLVER.AMP
    if torch.device(cfg.MODEL.DEVICE).type != "cpu":
        return
    if amp.PRECISION == "auto" or (amp.PRECISION == "fp16" and not amp.ENABLED):
        amp.PRECISION = "bf16" if amp.ENABLED and fast_bf16_on_cpu() else "fp32"
    amp.ENABLED = False


def fast_bf16_on_cpu() -> bool:
    """Return whether this CPU has AMX or AVX-512 instructions that multiply bf16 matrices faster than float32 ones."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check() for check in checks if check)


def resolve_bottom_up(cfg: CfgNode) -> None:
    """Derive MODEL.RESNETS.OUT_FEATURES from MODEL.RETINANET.LEVELS for Detectron2's networks, which read it, in place.

    The plugin's own networks do not. RES2_OUT_CHANNELS is set to 64 for ResNet-18 and ResNet-34 if it has Detectron2's
    default.
    """
    node = cfg.MODEL.RESNETS
    if cfg.MODEL.BOTTOM_UP.NAME.startswith("build_retina_") or cfg.MODEL.BACKBONE.NAME in RESNET_PYRAMIDS:
        return
    if not node.OUT_FEATURES:
        node.OUT_FEATURES = [f"res{level}" for level in cfg.MODEL.RETINANET.LEVELS if level <= LAST_RESNET_STAGE]
        logger.info("MODEL.RESNETS.OUT_FEATURES = %s, from MODEL.RETINANET.LEVELS", node.OUT_FEATURES)
    if node.DEPTH < 50 and node.RES2_OUT_CHANNELS == untouched().MODEL.RESNETS.RES2_OUT_CHANNELS:
        node.RES2_OUT_CHANNELS = 64


def scale_schedule(cfg: CfgNode) -> None:
    """Scale learning rate and schedule from SOLVER.REFERENCE_BATCH_SIZE to SOLVER.IMS_PER_BATCH, in place.

    With r = IMS_PER_BATCH / REFERENCE_BATCH_SIZE, the learning rates are multiplied by r and all numbers of iterations
    are divided by r, so that the number of images seen stays the same. The reference becomes IMS_PER_BATCH, so that a
    saved config is not scaled again.

    Source: Goyal et al. 2017, *Accurate, Large Minibatch SGD*, section 2.1 (linear scaling rule).
    """
    solver = cfg.SOLVER
    reference, batch = cfg.SOLVER.REFERENCE_BATCH_SIZE, solver.IMS_PER_BATCH
    if reference <= 0 or reference == batch:
        return
    ratio = batch / reference
    scaled = [(solver, "BASE_LR", ratio), (solver, "BASE_LR_END", ratio)]
    if not solver.EPOCHS:  # else the iterations are computed from the epochs
        keys = ("MAX_ITER", "STEPS", "WARMUP_ITERS", "FREEZE_ITERS", "CHECKPOINT_PERIOD")
        scaled += [(solver, key, 1 / ratio) for key in keys]
        scaled.append((cfg.TEST, "EVAL_PERIOD", 1 / ratio))
    changes = []
    for node, key, factor in scaled:
        old = node[key]
        node[key] = _scaled(old, factor)
        if node[key] != old:
            changes.append(f"{key} {old} -> {node[key]}")
    cfg.SOLVER.REFERENCE_BATCH_SIZE = batch
    logger.info("batch size %d instead of %d, so: %s", batch, reference, ", ".join(changes))


def _scaled(value: float | int | tuple[int, ...], factor: float) -> float | int | tuple[int, ...]:
    """Multiply a learning rate (float), or one or several numbers of iterations, which stay at least 1 and distinct.

    A number of 0 iterations stays 0.
    """
    if isinstance(value, float):
        return value * factor
    if isinstance(value, int):
        return max(1, round(value * factor)) if value else 0
    return tuple(dict.fromkeys(max(1, round(x * factor)) for x in value))


def resolve_epochs(cfg: CfgNode) -> None:
    """Convert SOLVER.EPOCHS and the other keys in epochs to iterations, in place, and log it.

    Reads DATASETS.TRAIN to count its images. EPOCHS becomes 0, so that a saved config keeps its iterations wherever it
    is read. If a dataset is not registered, EPOCHS stays and the trainer refuses the config.
    """
    solver, epochs = cfg.SOLVER, cfg.SOLVER.EPOCHS
    if epochs <= 0 or not cfg.DATASETS.TRAIN or any(name not in DatasetCatalog for name in cfg.DATASETS.TRAIN):
        return
    images = _images_per_epoch(cfg)
    one = images / solver.IMS_PER_BATCH
    solver.MAX_ITER = max(2, round(epochs * one))  # a training of one iteration leaves no room for a warm-up
    solver.STEPS = tuple(round(solver.MAX_ITER * fraction) for fraction in (2 / 3, 8 / 9))
    solver.WARMUP_ITERS = max(1, min(round(cfg.SOLVER.WARMUP_EPOCHS * one), solver.MAX_ITER // 4))
    solver.FREEZE_ITERS = round(cfg.SOLVER.FREEZE_EPOCHS * one)
    every = cfg.TEST.EVAL_EPOCHS
    solver.CHECKPOINT_PERIOD = max(1, round((every or 1) * one))
    cfg.TEST.EVAL_PERIOD = solver.CHECKPOINT_PERIOD if every else 0
    cfg.SOLVER.EPOCHS = 0
    logger.info(
        "%d epochs of %d images are %d iterations, evaluated %s",
        epochs,
        images,
        solver.MAX_ITER,
        f"every {cfg.TEST.EVAL_PERIOD}" if every else "at the end",
    )


def _images_per_epoch(cfg: CfgNode) -> int:
    """Return the number of images in one pass over DATASETS.TRAIN, including repeated ones, without those left out."""
    records = [record for name in cfg.DATASETS.TRAIN for record in DatasetCatalog.get(name)]
    with_objects = [record for record in records if any(not x.get("iscrowd", 0) for x in record.get("annotations", []))]
    images = sum(record.get("repeat", 1) for record in with_objects)
    if not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        images += (len(records) - len(with_objects)) * cfg.DATALOADER.EMPTY_IMAGES
    return round(images)


def drop_late_steps(cfg: CfgNode) -> None:
    """Remove the SOLVER.STEPS that training never reaches, in place; warn unless they are Detectron2's default."""
    solver = cfg.SOLVER
    late = [step for step in solver.STEPS if step >= solver.MAX_ITER]
    if solver.LR_SCHEDULER_NAME != "WarmupMultiStepLR" or not late:
        return
    level = logging.INFO if tuple(solver.STEPS) == untouched().SOLVER.STEPS else logging.WARNING
    logger.log(
        level,
        "SOLVER.STEPS %s: training ends at SOLVER.MAX_ITER %d, so the learning rate never drops at %s",
        tuple(solver.STEPS),
        solver.MAX_ITER,
        ", ".join(map(str, late)),
    )
    solver.STEPS = tuple(step for step in solver.STEPS if step < solver.MAX_ITER)
