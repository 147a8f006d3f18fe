"""Values that are allowed individually but not together."""

import pytest
from support import BASE, TINY

from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin import load_config

CASES = [
    (["INPUT.CROP.TYPE", "relative", "INPUT.CROP.SIZE", [300, 400]], "fractions of the image, at most 1"),
    (["INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [0.9, 0.9]], "pixels, integers of at least 1"),
    (["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.MIN_SIZE_TRAIN", (640, 700, 800)], "draws between two sizes"),
    (["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.MIN_SIZE_TRAIN", (800, 640)], "draws between two sizes"),
    (["INPUT.FORMAT", "L"], "MODEL.PIXEL_MEAN has 3 values, but the number of channels of INPUT.FORMAT L is 1"),
    (["MODEL.PIXEL_STD", [1.0]], "MODEL.PIXEL_STD has 1 values"),
    (["INPUT.VALUE_RANGE", (4095, 0)], "must be (low, high), ascending"),
    (["INPUT.VALUE_RANGE", (4095,)], "must be (low, high), ascending"),
    (["SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", "SOLVER.WARMUP_ITERS", 1000, "SOLVER.MAX_ITER", 4],
     "must be between 0 and MAX_ITER 4"),
    (["SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", "SOLVER.WARMUP_ITERS", 0], "must be between 0 and MAX_ITER"),
    (["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR_END", 1.0], "is above SOLVER.BASE_LR"),
    (["SOLVER.NESTEROV", True, "SOLVER.MOMENTUM", 0], "needs SOLVER.MOMENTUM above 0"),
    (["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.FREEZE_ITERS", 5], "set CLIP_TYPE norm"),
    (["SOLVER.ACCUMULATE", 3], "divide SOLVER.IMS_PER_BATCH"),
    (["TEST.BEST_METRIC", "AP"], "must be task/metric"),
    (["TEST.EARLY_STOP_PATIENCE", 3], "needs TEST.BEST_METRIC"),
    (["SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", "fp16"], "fp16 needs a GPU"),
    (["MODEL.DEVICE", "mps"], "MODEL.DEVICE is 'mps', which is not available here"),
    (["MODEL.DEVICE", "gpu"], "which torch does not know"),
    (["MODEL.DEVICE", "meta"], "which is not available here"),
    (["SOLVER.REFERENCE_WORLD_SIZE", 8], "set SOLVER.REFERENCE_BATCH_SIZE"),
]  # fmt: skip


@pytest.mark.parametrize("opts, message", CASES, ids=lambda x: " ".join(map(str, x)) if isinstance(x, list) else "")
def test_a_contradiction_is_refused_at_start_up(opts, message):
    with pytest.raises(ValueError) as error:
        load_config(BASE, [*TINY, *opts])
    assert message in str(error.value)


ALLOWED = [
    ["INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "(384, 600)"],
    ["TEST.BEST_METRIC", ""],
    ["MODEL.DEVICE", "cuda"],
]


@pytest.mark.parametrize("opts", ALLOWED, ids=lambda x: " ".join(map(str, x)))
def test_values_that_work_together_are_accepted(opts):
    load_config(BASE, [*TINY, *opts])


def test_datasets_with_different_classes_are_named():
    for name, classes in (("two_a", ["x", "y"]), ("two_b", ["y", "x"])):
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).set(thing_classes=classes)
    opts = ["MODEL.RETINANET.NUM_CLASSES", 0, "DATASETS.TRAIN", ("two_a",), "DATASETS.TEST", ("two_b",)]
    try:
        with pytest.raises(ValueError, match=r"two_a and two_b have different classes: \['x', 'y'\] and \['y', 'x'\]"):
            load_config(BASE, [*TINY, *opts])
    finally:
        for name in ("two_a", "two_b"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
