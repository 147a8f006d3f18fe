"""What follows from a config whose values are allowed: device, classes, pixels, schedule."""

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
"""Functions of other parts that register what the name of a dataset describes, such as a part of another; ``retina_plugin/__init__.py`` adds them."""

LAST_RESNET_STAGE = 5

WITH_REGIONS = ("GeneralizedRCNN", "ProposalNetwork")
"""Detectors of Detectron2 that find regions first."""

RESNET_PYRAMIDS = ("build_resnet_fpn_backbone", "build_retinanet_resnet_fpn_backbone")
"""Detectron2's own."""


def resolve_config(cfg: CfgNode) -> None:
    """Fill in what follows from the machine, the dataset, the weights and the batch size, in place, and log it.

    MODEL.DEVICE "cuda" becomes "cpu" where there is no GPU; SOLVER.AMP.PRECISION becomes the precision that a CPU is fast at; the number of classes becomes that of
    DATASETS.TRAIN (else TEST), see :func:`resolve_classes`; the feature maps of Detectron2's own networks follow from the levels; the pixels follow the weights, see
    :func:`retina_plugin.config.pixels.resolve_pixels`; the schedule is scaled by :func:`scale_schedule` and :func:`resolve_epochs`,
    and cut by :func:`drop_late_steps`. A resolved config stays as it is. The values have to be allowed.
    """
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.info("no GPU here: MODEL.DEVICE %s -> cpu", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, *cfg.DATASETS.FINAL_TEST):
        for look in ON_DATASET:
            look(name)
    resolve_classes(cfg)
    if (cfg.TEST.EVALUATOR, cfg.TEST.BEST_METRIC) == ("voc", "bbox/AP"):
        cfg.TEST.BEST_METRIC = "bbox/AP50"
        logger.info("TEST.BEST_METRIC bbox/AP -> bbox/AP50, which is what TEST.EVALUATOR voc gives")
    resolve_detectron2s_own(cfg)
    resolve_precision_of_a_cpu(cfg)
    resolve_bottom_up(cfg)
    if cfg.INPUT.CROP.TYPE.startswith("absolute") and all(x == int(x) for x in cfg.INPUT.CROP.SIZE):
        cfg.INPUT.CROP.SIZE = [int(x) for x in cfg.INPUT.CROP.SIZE]  # pixels, which Detectron2 wants as integers
    resolve_pixels(cfg)
    scale_schedule(cfg)
    resolve_epochs(cfg)
    drop_late_steps(cfg)


def resolve_classes(cfg: CfgNode) -> None:
    """Let the number of classes follow from the first dataset that has names, in place.

    MODEL.RETINANET.NUM_CLASSES if it is 0; for the detectors of Detectron2 that read it, MODEL.ROI_HEADS.NUM_CLASSES if it is Detectron2's 80.
    """
    with_regions = cfg.MODEL.META_ARCHITECTURE in WITH_REGIONS
    key, node = (
        ("MODEL.ROI_HEADS.NUM_CLASSES", cfg.MODEL.ROI_HEADS)
        if with_regions
        else ("MODEL.RETINANET.NUM_CLASSES", cfg.MODEL.RETINANET)
    )
    if node.NUM_CLASSES != (untouched().MODEL.ROI_HEADS.NUM_CLASSES if with_regions else 0):
        return
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if classes := class_names(name, read=True):
            if node.NUM_CLASSES != len(classes):
                node.NUM_CLASSES = len(classes)
                logger.info("%s = %d, from the classes of %s", key, len(classes), name)
            break


def resolve_detectron2s_own(cfg: CfgNode) -> None:
    """Give Detectron2's own detectors and pyramids the names of the levels of MODEL.RETINANET.LEVELS, in place, where they are empty or Detectron2's."""
    levels = cfg.MODEL.RETINANET.LEVELS
    names = [f"p{level}" for level in levels]
    changes = []
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet" and not cfg.MODEL.RETINANET.IN_FEATURES:
        changes.append((cfg.MODEL.RETINANET, "IN_FEATURES", names))
    if cfg.MODEL.BACKBONE.NAME in RESNET_PYRAMIDS:
        below = [f"res{level}" for level in levels if level <= LAST_RESNET_STAGE]
        changes += [
            (node, key, below)
            for node, key in ((cfg.MODEL.FPN, "IN_FEATURES"), (cfg.MODEL.RESNETS, "OUT_FEATURES"))
            if not node[key]
        ]
    if cfg.MODEL.META_ARCHITECTURE in WITH_REGIONS and cfg.MODEL.BACKBONE.NAME in (
        "build_retina_pyramid_backbone",
        "build_retina_vit_backbone",
    ):
        regions = untouched().MODEL
        if cfg.MODEL.RPN.IN_FEATURES == regions.RPN.IN_FEATURES:
            changes.append((cfg.MODEL.RPN, "IN_FEATURES", names))
        if cfg.MODEL.ROI_HEADS.IN_FEATURES == regions.ROI_HEADS.IN_FEATURES:
            changes.append(
                (cfg.MODEL.ROI_HEADS, "IN_FEATURES", [f"p{level}" for level in levels if level <= LAST_RESNET_STAGE])
            )
    for node, key, value in changes:
        setattr(node, key, value)
        logger.info("%s = %s, from MODEL.RETINANET.LEVELS", key, value)


def unresolved(cfg: CfgNode, part: str = "") -> list[str]:
    """What :func:`resolve_config` would change, as "KEY old -> new".

    Args:
        cfg: with allowed values; left as it is.
        part: beginning of the keys that count, such as "MODEL.".
    """
    resolved = cfg.clone()
    resolved.defrost()
    with not_said():
        resolve_config(resolved)
    changed = [key for key in all_keys(cfg) if key.startswith(part) and get_key(cfg, key) != get_key(resolved, key)]
    return [f"{key} {get_key(cfg, key)} -> {get_key(resolved, key)}" for key in changed]


@contextlib.contextmanager
def not_said() -> Iterator[None]:
    """Keep what is logged of changes that are only tried."""
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def class_names(dataset: str, *, read: bool = False) -> list[str] | None:
    """The class names of a registered dataset; None if it has none, or is not registered.

    Args:
        dataset: its name.
        read: read the dataset if its names are not known without, as with ``register_coco_instances``.

    Raises:
        ValueError: the dataset cannot be read.
    """
    metadata = MetadataCatalog.get(dataset)
    if read and metadata.get("thing_classes") is None and dataset in DatasetCatalog:
        try:
            DatasetCatalog.get(dataset)
        except Exception as error:  # whatever a function that somebody registered may raise
            raise ValueError(f"the dataset {dataset} cannot be read: {type(error).__name__}: {error}") from error
    names = metadata.get("thing_classes")
    return None if names is None else list(names)


def resolve_precision_of_a_cpu(cfg: CfgNode) -> None:
    """Let SOLVER.AMP.PRECISION alone say how a CPU computes, in place, and switch SOLVER.AMP.ENABLED off there.

    Detectron2's ``DefaultTrainer`` takes its ``AMPTrainer`` if ENABLED is set, and that one stops without CUDA. PRECISION auto becomes
    bf16 or fp32; with ENABLED off it becomes fp32, as on a GPU.
    """
    amp = cfg.SOLVER.AMP
    if torch.device(cfg.MODEL.DEVICE).type != "cpu":
        return
    if amp.PRECISION == "auto" or (amp.PRECISION == "fp16" and not amp.ENABLED):
        amp.PRECISION = "bf16" if amp.ENABLED and fast_bf16_on_cpu() else "fp32"
    amp.ENABLED = False


def fast_bf16_on_cpu() -> bool:
    """Whether this CPU multiplies bf16 matrices faster than float32 ones: with AMX tiles or the bf16 instructions of AVX-512."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check() for check in checks if check)


def resolve_bottom_up(cfg: CfgNode) -> None:
    """Let MODEL.RESNETS.OUT_FEATURES follow from MODEL.RETINANET.LEVELS where a network of Detectron2's reads it, in place.

    The plugin's own networks do not. RES2_OUT_CHANNELS follows from DEPTH, too, if it is as Detectron2 has it: ResNet-18 and 34 have 64.
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
    iterations = [
        (solver, key, 1 / ratio) for key in ("MAX_ITER", "STEPS", "WARMUP_ITERS", "FREEZE_ITERS", "CHECKPOINT_PERIOD")
    ]
    iterations += [(cfg.TEST, "EVAL_PERIOD", 1 / ratio)]
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
            node[key] = tuple(dict.fromkeys(max(1, round(x * factor)) for x in old))
        if node[key] != old:
            changes.append(f"{key} {old} -> {node[key]}")
    cfg.SOLVER.REFERENCE_BATCH_SIZE = batch
    logger.info("batch of %d instead of %d, so: %s", batch, reference, ", ".join(changes))


def resolve_epochs(cfg: CfgNode) -> None:
    """Turn SOLVER.EPOCHS and the keys beside it into iterations, in place, and log it; reads DATASETS.TRAIN to count its images.

    EPOCHS becomes 0, so that a saved config keeps its iterations wherever it is read. It stays where a dataset is not registered,
    and the trainer then refuses the config.
    """
    solver, epochs = cfg.SOLVER, cfg.SOLVER.EPOCHS
    if epochs <= 0 or not cfg.DATASETS.TRAIN or any(name not in DatasetCatalog for name in cfg.DATASETS.TRAIN):
        return
    records = [record for name in cfg.DATASETS.TRAIN for record in DatasetCatalog.get(name)]
    with_objects = [record for record in records if any(not x.get("iscrowd", 0) for x in record.get("annotations", []))]
    images = sum(record.get("repeat", 1) for record in with_objects)
    images += (
        0
        if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        else (len(records) - len(with_objects)) * cfg.DATALOADER.EMPTY_IMAGES
    )
    images = round(images)
    one = images / solver.IMS_PER_BATCH
    solver.MAX_ITER = max(2, round(epochs * one))  # of one iteration no part can be a warm-up
    solver.STEPS = tuple(round(solver.MAX_ITER * share) for share in (2 / 3, 8 / 9))
    solver.WARMUP_ITERS = max(1, min(round(cfg.SOLVER.WARMUP_EPOCHS * one), solver.MAX_ITER // 4))
    solver.FREEZE_ITERS = round(cfg.SOLVER.FREEZE_EPOCHS * one)
    cfg.TEST.EVAL_PERIOD = solver.CHECKPOINT_PERIOD = max(1, round(cfg.TEST.EVAL_EPOCHS * one))
    cfg.SOLVER.EPOCHS = 0
    logger.info(
        "%d epochs of %d images are %d iterations, evaluated every %d",
        epochs,
        images,
        solver.MAX_ITER,
        cfg.TEST.EVAL_PERIOD,
    )


def drop_late_steps(cfg: CfgNode) -> None:
    """Leave out the SOLVER.STEPS that MAX_ITER never reaches, in place, with a warning if they are not Detectron2's default."""
    solver = cfg.SOLVER
    late = [step for step in solver.STEPS if step >= solver.MAX_ITER]
    if solver.LR_SCHEDULER_NAME != "WarmupMultiStepLR" or not late:
        return
    level = logging.INFO if tuple(solver.STEPS) == untouched().SOLVER.STEPS else logging.WARNING
    logger.log(
        level,
        "SOLVER.STEPS %s: training ends at SOLVER.MAX_ITER %d, so the rate never falls at %s",
        tuple(solver.STEPS),
        solver.MAX_ITER,
        ", ".join(map(str, late)),
    )
    solver.STEPS = tuple(step for step in solver.STEPS if step < solver.MAX_ITER)
