"""Values that are allowed each, and not together."""

import pytest
from conftest import BASE, TINY

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, build_model

from retina_plugin import load_config
from retina_plugin.modeling import RetinaPluginNet

GN = ["MODEL.FPN.OUT_CHANNELS", 48]

CASES = [
    (["INPUT.CROP.TYPE", "relative", "INPUT.CROP.SIZE", [300, 400]], "shares of the image, at most 1"),
    (["INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [0.9, 0.9]], "pixels, integers of at least 1"),
    (["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.MIN_SIZE_TRAIN", (640, 700, 800)], "draws between two sizes"),
    (["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.MIN_SIZE_TRAIN", (800, 640)], "draws between two sizes"),
    (["INPUT.FORMAT", "L"], "MODEL.PIXEL_MEAN has 3 values, but images in INPUT.FORMAT L have 1 channels"),
    (["MODEL.PIXEL_STD", [1.0]], "MODEL.PIXEL_STD has 1 values"),
    (["MODEL.RETINANET.LEVELS", [3, 5]], "must be consecutive"),
    (["MODEL.RETINANET.LEVELS", [6, 7]], "must start at 2..5"),
    (["MODEL.RETINANET.IN_FEATURES", ["p3"]], "MODEL.RETINANET.IN_FEATURES is ['p3'] but must be"),
    (["MODEL.FPN.TOP_BLOCK", "none"], "MODEL.RETINANET.LEVELS goes up to 7"),
    (["MODEL.FPN.NAME", "bifpn", "MODEL.RETINANET.LEVELS", [4]], "needs at least two"),
    (["MODEL.RETINANET.IOU_THRESHOLDS", [0.5, 0.4]], "must ascend"),
    (["MODEL.RETINANET.IOU_LABELS", [0, 1]], "IOU_LABELS have one entry more"),
    (["MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64]]], "SIZES has 2 rows, but MODEL.RETINANET.LEVELS 5 levels; give 0 or 5 rows"),
    (["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[1.0], [2.0]]], "ASPECT_RATIOS has 2 rows"),
    (["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[1.0], [2.0], [1.0], [1.0], [1.0, 2.0]]], "different numbers of anchors"),
    (["MODEL.RETINANET.NORM", "GN", *GN], "32 groups, which must divide the channels; MODEL.RETINANET.HEAD_CHANNELS or MODEL.FPN.OUT_CHANNELS is 48"),
    (["MODEL.FPN.NORM", "GN", *GN], "MODEL.FPN.OUT_CHANNELS is 48"),
    (["MODEL.FPN.NAME", "bifpn", "MODEL.FPN.BIFPN_NORM", "GN", *GN], "MODEL.FPN.BIFPN_NORM GN has 32 groups"),
    (["MODEL.FPN.NAME", "bifpn", "SOLVER.IMS_PER_BATCH", 1, "INPUT.MIN_SIZE_TRAIN", (64,)], "MODEL.FPN.BIFPN_NORM BN needs more than one value"),
    (["INPUT.VALUE_RANGE", (4095, 0)], "must be (low, high), ascending"),
    (["INPUT.VALUE_RANGE", (4095,)], "must be (low, high), ascending"),
    (["MODEL.RETINANET.CLS_LOSS", "ohem_1to3", "MODEL.CLS_LOSS.OHEM_BATCH_SIZE", 3], "ohem_1to3 needs at least 4"),
    (["MODEL.RETINANET.NORM", "BN", "SOLVER.IMS_PER_BATCH", 1, "INPUT.MIN_SIZE_TRAIN", (64,)], "can be a single pixel"),
    (["MODEL.BOTTOM_UP.NAME", "build_retina_timm", "MODEL.TIMM.NAME", "resnet_fifty"], "MODEL.TIMM.NAME is 'resnet_fifty', which timm"),
    (["MODEL.BOTTOM_UP.NAME", "build_retina_torchvision", "MODEL.TORCHVISION.NAME", "fcos_resnet50_fpn"], "does not have among its classifiers"),
    (["MODEL.BOTTOM_UP.NAME", "build_retina_timm", "MODEL.BACKBONE.FREEZE_AT", 2], "trains the whole network"),
    (["MODEL.RESNETS.NUM_GROUPS", 32], "ResNet-18 has no groups"),
    (["MODEL.RESNETS.RES5_DILATION", 2], "has no dilation"),
    (["MODEL.BOTTOM_UP.NAME", "build_resnet_backbone", "MODEL.RESNETS.RES5_DILATION", 2], "leaves res5 at stride 16"),
    (["MODEL.BOTTOM_UP.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res4"]], "leave it empty to let it follow"),
    (["SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", "SOLVER.WARMUP_ITERS", 1000, "SOLVER.MAX_ITER", 4], "must lie between 0 and MAX_ITER 4"),
    (["SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", "SOLVER.WARMUP_ITERS", 0], "must lie between 0 and MAX_ITER"),
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
    (["MODEL.BOTTOM_UP.NAME", "build_retinanet_resnet_fpn_backbone"], "has a pyramid of its own"),
    (["MODEL.BOTTOM_UP.NAME", "build_retina_pyramid_backbone"], "has a pyramid of its own"),
    (["MODEL.BACKBONE.NAME", "build_resnet_backbone"], "yields no p3"),
    (["MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"], "turned boxes"),
    (["MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator"], "needs MODEL.ANCHOR_GENERATOR.SIZES"),
]  # fmt: skip


@pytest.mark.parametrize("opts, said", CASES, ids=lambda x: " ".join(map(str, x)) if isinstance(x, list) else "")
def test_what_cannot_work_together_is_refused_at_start_up(opts, said):
    with pytest.raises(ValueError) as error:
        load_config(BASE, [*TINY, *opts])
    assert said in str(error.value)


ALLOWED = [
    ["SOLVER.IMS_PER_BATCH", 1, "MODEL.RETINANET.NORM", "BN", "INPUT.MIN_SIZE_TRAIN", (800,)],
    ["MODEL.RETINANET.NORM", "GN", "MODEL.FPN.OUT_CHANNELS", 64],
    ["MODEL.RETINANET.NORM", "GN", "MODEL.RETINANET.HEAD_CHANNELS", 32],
    ["MODEL.RETINANET.NORM", "GN", "MODEL.RETINANET.NUM_CONVS", 0],
    ["INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "(384, 600)"],
    ["MODEL.TIMM.NAME", "not a network, and not read"],
    ["TEST.BEST_METRIC", ""],
    ["MODEL.DEVICE", "cuda"],
]


@pytest.mark.parametrize("opts", ALLOWED, ids=lambda x: " ".join(map(str, x)))
def test_what_can_work_together_is_not(opts):
    load_config(BASE, [*TINY, *opts])


def test_a_subclass_of_the_detector_is_one():
    @META_ARCH_REGISTRY.register()
    class MyRetina(RetinaPluginNet):
        pass

    try:
        assert type(build_model(load_config(BASE, [*TINY, "MODEL.META_ARCHITECTURE", "MyRetina"]))) is MyRetina
    finally:
        META_ARCH_REGISTRY._obj_map.pop("MyRetina")


def test_detectron2s_resnet_works_in_the_bottom_up_slot():
    for depth, levels in ((18, [3, 4, 5, 6]), (50, [2, 3])):
        cfg = load_config(
            BASE,
            [
                *TINY,
                "MODEL.BOTTOM_UP.NAME",
                "build_resnet_backbone",
                "MODEL.RESNETS.DEPTH",
                depth,
                "MODEL.RETINANET.LEVELS",
                levels,
            ],
        )
        assert list(build_model(cfg).backbone.bottom_up.output_shape()) == [
            f"res{level}" for level in levels if level <= 5
        ]


def test_datasets_that_disagree_are_named():
    for name, classes in (("two_a", ["x", "y"]), ("two_b", ["y", "x"])):
        DatasetCatalog.register(name, lambda: [])
        MetadataCatalog.get(name).set(thing_classes=classes)
    try:
        with pytest.raises(ValueError, match=r"two_a and two_b have different classes: \['x', 'y'\] and \['y', 'x'\]"):
            load_config(
                BASE,
                [*TINY, "MODEL.RETINANET.NUM_CLASSES", 0, "DATASETS.TRAIN", ("two_a",), "DATASETS.TEST", ("two_b",)],
            )
    finally:
        for name in ("two_a", "two_b"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
