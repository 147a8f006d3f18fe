"""Values that are allowed individually but not together."""

from collections.abc import Iterator

import torch

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from retina_plugin.config.key import nearest
from retina_plugin.config.kinds import has_own_pyramid, is_ours, is_retinanet
from retina_plugin.config.model_contradictions import Problem, model_problems
from retina_plugin.config.resolve import class_names

__all__ = [
    "Problem",
    "after_resolving",
    "before_resolving",
    "has_own_pyramid",
    "is_ours",
    "is_retinanet",
    "unknown_datasets",
]


def before_resolving(cfg: CfgNode, wrong: set[str]) -> Iterator[Problem]:
    """Yield the problems that must be fixed before anything is derived from the config.

    Args:
        cfg: Any config.
        wrong: Keys whose values are not allowed, which are not checked again.
    """
    if "SOLVER.STEPS" not in wrong and list(cfg.SOLVER.STEPS) != sorted(set(cfg.SOLVER.STEPS)):
        yield Problem("SOLVER.STEPS", f"SOLVER.STEPS is {tuple(cfg.SOLVER.STEPS)}; it must ascend")
    if "MODEL.DEVICE" not in wrong and (problem := _device_problem(cfg.MODEL.DEVICE)):
        yield Problem("MODEL.DEVICE", problem)


def after_resolving(cfg: CfgNode, *, training: bool) -> Iterator[Problem]:
    """Yield the contradictions in a resolved config.

    Args:
        cfg: A resolved config.
        training: Whether it is about to be trained, so that its datasets must exist.
    """
    yield from _precision(cfg)
    yield from model_problems(cfg)
    yield from _images(cfg)
    yield from _crop(cfg)
    yield from _windows(cfg)
    yield from _evaluation(cfg)
    yield from _schedule(cfg)
    yield from _weights_over_time(cfg)
    yield from _classes(cfg, read=training)
    if training:
        yield from _datasets(cfg)


def _device_problem(device: str) -> str | None:
    """Return why nothing can run on a device. CUDA without a GPU is no problem: resolving the config replaces it."""
    try:
        kind = torch.device(device)
    except RuntimeError:
        return f"MODEL.DEVICE is {device!r}, which torch does not know; use cpu, cuda or cuda:1"
    if kind.type == "cpu" or (kind.type == "cuda" and not torch.cuda.is_available()):
        return None
    if kind.type == "cuda":
        count = torch.cuda.device_count()
        exists = (kind.index or 0) < count
        return None if exists else f"MODEL.DEVICE is {device!r}, but the last of {count} GPUs is cuda:{count - 1}"
    try:
        available = torch.get_device_module(kind).is_available()
    except (RuntimeError, AttributeError):
        available = False
    return None if available else f"MODEL.DEVICE is {device!r}, which is not available here; use cpu or cuda"


def _precision(cfg: CfgNode) -> Iterator[Problem]:
    """Yield a precision that the device does not have."""
    if cfg.SOLVER.AMP.PRECISION == "fp16" and torch.device(cfg.MODEL.DEVICE).type == "cpu":
        yield Problem(
            "SOLVER.AMP.PRECISION MODEL.DEVICE",
            f"SOLVER.AMP.PRECISION fp16 needs a GPU; on {cfg.MODEL.DEVICE} use auto, bf16 or fp32",
        )


def _images(cfg: CfgNode) -> Iterator[Problem]:
    """Yield contradictions about the pixels and sizes of images."""
    channels = 1 if cfg.INPUT.FORMAT == "L" else 3
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(cfg.MODEL[key]) != channels:
            yield Problem(
                f"MODEL.{key}",
                f"MODEL.{key} has {len(cfg.MODEL[key])} values, but the number of channels of INPUT.FORMAT "
                f"{cfg.INPUT.FORMAT} is {channels}",
            )
    values = list(cfg.INPUT.VALUE_RANGE)
    if values and (len(values) != 2 or values[0] >= values[1]):
        yield Problem(
            "INPUT.VALUE_RANGE", f"INPUT.VALUE_RANGE is {tuple(values)}; it must be (low, high), ascending, or empty"
        )
    sizes = list(cfg.INPUT.MIN_SIZE_TRAIN)
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and (len(sizes) != 2 or not 1 <= sizes[0] <= sizes[1]):
        yield Problem(
            "INPUT.MIN_SIZE_TRAIN INPUT.MIN_SIZE_TRAIN_SAMPLING",
            "INPUT.MIN_SIZE_TRAIN_SAMPLING range draws between two sizes, ascending and above 0; "
            f"INPUT.MIN_SIZE_TRAIN is {tuple(sizes)}",
        )


def _windows(cfg: CfgNode) -> Iterator[Problem]:
    """Yield contradictions about parts of training images."""
    jitter = list(cfg.INPUT.SCALE_JITTER)
    if jitter and (len(jitter) != 2 or jitter[0] > jitter[1]):
        yield Problem(
            "INPUT.SCALE_JITTER", f"INPUT.SCALE_JITTER is {tuple(jitter)}; it must be (low, high), ascending, or empty"
        )
    for key, value in (("INPUT.SCALE_JITTER", jitter), ("INPUT.TILES.SIZE", cfg.INPUT.TILES.SIZE)):
        if value and cfg.INPUT.CROP.ENABLED:
            yield Problem(f"{key} INPUT.CROP.ENABLED", f"{key} and INPUT.CROP both choose a part of the image: set one")
        if value and cfg.INPUT.MAPPER == "detectron2":
            yield Problem(f"{key} INPUT.MAPPER", f"{key} has no effect with INPUT.MAPPER detectron2")


def _crop(cfg: CfgNode) -> Iterator[Problem]:
    """Yield a size of the crop that does not fit its type."""
    kind, size = cfg.INPUT.CROP.TYPE, list(cfg.INPUT.CROP.SIZE)
    keys, start = (
        "INPUT.CROP.SIZE INPUT.CROP.TYPE",
        f"INPUT.CROP.SIZE is {size}; with INPUT.CROP.TYPE {kind} it must be",
    )
    if kind.startswith("relative") and max(size) > 1:
        yield Problem(keys, f"{start} fractions of the image, at most 1")
    if kind.startswith("absolute") and any(x < 1 or x != int(x) for x in size):
        yield Problem(keys, f"{start} pixels, integers of at least 1")


def _evaluation(cfg: CfgNode) -> Iterator[Problem]:
    """Yield contradictions about what is evaluated."""
    metric = cfg.TEST.BEST_METRIC
    if metric and ("/" not in metric or not all(metric.split("/"))):
        yield Problem(
            "TEST.BEST_METRIC", f"TEST.BEST_METRIC is {metric!r}; it must be task/metric, such as bbox/AP, or empty"
        )
    evaluates = cfg.TEST.EVAL_PERIOD or cfg.SOLVER.EPOCHS
    if cfg.TEST.EARLY_STOP_PATIENCE and not (metric and evaluates):
        yield Problem(
            "TEST.EARLY_STOP_PATIENCE",
            "TEST.EARLY_STOP_PATIENCE needs TEST.BEST_METRIC and evaluations during training "
            "(TEST.EVAL_PERIOD or SOLVER.EPOCHS)",
        )


def _schedule(cfg: CfgNode) -> Iterator[Problem]:
    """Yield contradictions about batches, learning rate and momentum."""
    solver = cfg.SOLVER
    if solver.IMS_PER_BATCH % solver.ACCUMULATE:
        yield Problem(
            "SOLVER.ACCUMULATE SOLVER.IMS_PER_BATCH",
            f"SOLVER.ACCUMULATE must divide SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH}; got {solver.ACCUMULATE}",
        )
    if solver.LR_SCHEDULER_NAME == "OneCycleLR" and not 0 < solver.WARMUP_ITERS < solver.MAX_ITER and not solver.EPOCHS:
        yield Problem(
            "SOLVER.WARMUP_ITERS SOLVER.MAX_ITER SOLVER.LR_SCHEDULER_NAME",
            "OneCycleLR rises during SOLVER.WARMUP_ITERS, which must be between 0 and MAX_ITER "
            f"{solver.MAX_ITER}; got {solver.WARMUP_ITERS}",
        )
    if solver.LR_SCHEDULER_NAME in ("OneCycleLR", "WarmupCosineLR") and solver.BASE_LR_END > solver.BASE_LR:
        yield Problem(
            "SOLVER.BASE_LR_END SOLVER.BASE_LR",
            f"SOLVER.BASE_LR_END {solver.BASE_LR_END} is above SOLVER.BASE_LR {solver.BASE_LR}, "
            f"but {solver.LR_SCHEDULER_NAME} decreases the learning rate",
        )
    if solver.OPTIMIZER == "SGD" and solver.NESTEROV and solver.MOMENTUM == 0:
        yield Problem("SOLVER.NESTEROV SOLVER.MOMENTUM", "SOLVER.NESTEROV needs SOLVER.MOMENTUM above 0")
    if solver.PROFILE_ITER > solver.MAX_ITER and not solver.EPOCHS:
        yield Problem(
            "SOLVER.PROFILE_ITER SOLVER.MAX_ITER",
            f"SOLVER.PROFILE_ITER is {solver.PROFILE_ITER}, but training ends at SOLVER.MAX_ITER {solver.MAX_ITER}",
        )


def _weights_over_time(cfg: CfgNode) -> Iterator[Problem]:
    """Yield contradictions about weights that are frozen or averaged."""
    solver = cfg.SOLVER
    if solver.CLIP_GRADIENTS.ENABLED and solver.CLIP_GRADIENTS.CLIP_TYPE == "value" and solver.FREEZE_ITERS:
        yield Problem(
            "SOLVER.CLIP_GRADIENTS.CLIP_TYPE SOLVER.FREEZE_ITERS",
            "SOLVER.CLIP_GRADIENTS.CLIP_TYPE value cannot clip the network that has no gradients during "
            f"SOLVER.FREEZE_ITERS {solver.FREEZE_ITERS}; set CLIP_TYPE norm",
        )
    if solver.EMA_DECAY and solver.SWA_ITERS:
        yield Problem(
            "SOLVER.EMA_DECAY SOLVER.SWA_ITERS",
            "SOLVER.EMA_DECAY and SOLVER.SWA_ITERS are two averages of the weights: set only one of them",
        )
    if solver.FREEZE_ITERS and not has_own_pyramid(cfg):
        yield Problem(
            "SOLVER.FREEZE_ITERS MODEL.BACKBONE.NAME",
            "SOLVER.FREEZE_ITERS freezes the network below the plugin's pyramid, but MODEL.BACKBONE.NAME is "
            f"{cfg.MODEL.BACKBONE.NAME}",
        )


def _classes(cfg: CfgNode, *, read: bool) -> Iterator[Problem]:
    """Yield disagreements between NUM_CLASSES and the datasets, and between the datasets.

    Args:
        cfg: A resolved config.
        read: Whether to read a dataset whose class names are not known otherwise.
    """
    key, node = ("MODEL.ROI_HEADS.NUM_CLASSES", cfg.MODEL.ROI_HEADS)
    if is_retinanet(cfg):
        key, node = ("MODEL.RETINANET.NUM_CLASSES", cfg.MODEL.RETINANET)
    count, seen = node.NUM_CLASSES, {}
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        try:
            classes = class_names(name, read=read)
        except ValueError as error:
            yield Problem("DATASETS.TRAIN DATASETS.TEST", str(error))
            continue
        if classes is None:
            continue
        seen[name] = classes
        if count not in (0, len(classes)):
            shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            yield Problem(
                key,
                f"{key} is {count}, but the dataset {name} has {len(classes)} classes ({shown}); "
                "remove the key or set it to 0 to take the number from the dataset",
            )
    if count == 0 and not seen:
        names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
        yield Problem(
            "DATASETS.TRAIN",
            f"{key} is not set and none of DATASETS {names} is a registered dataset with class names",
        )
    first = next(iter(seen), None)
    for name, other in seen.items():
        if other != seen[first]:
            yield Problem(
                "DATASETS.TRAIN DATASETS.TEST",
                f"the datasets {first} and {name} have different classes: {seen[first]} and {other}",
            )


def _datasets(cfg: CfgNode) -> Iterator[Problem]:
    """Yield what training needs and does not have."""
    if not cfg.DATASETS.TRAIN:
        yield Problem("DATASETS.TRAIN", "DATASETS.TRAIN is empty: there is nothing to train on")
    yield from unknown_datasets(cfg, ("TRAIN", "TEST", "FINAL_TEST"))


def unknown_datasets(cfg: CfgNode, keys: tuple[str, ...]) -> Iterator[Problem]:
    """Yield the datasets that are not registered.

    Args:
        cfg: Any config with allowed values.
        keys: Keys of DATASETS to check, such as "TRAIN".
    """
    for key in keys:
        if unknown := [name for name in cfg.DATASETS[key] if name not in DatasetCatalog]:
            near = nearest(unknown[0], DatasetCatalog.list())
            suggestion = f"; did you mean {near}?" if near else ""
            yield Problem(
                f"DATASETS.{key}",
                f"DATASETS.{key} names {', '.join(unknown)}, which is not registered{suggestion}",
            )
