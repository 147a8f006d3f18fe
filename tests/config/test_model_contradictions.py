"""Values of the model's keys that are allowed individually but not together."""

import pytest
from support import BASE, TINY

from detectron2.modeling import build_model

from retina_plugin import load_config

GN = ["MODEL.FPN.OUT_CHANNELS", 48]

CASES = [
    (["MODEL.RETINANET.LEVELS", [3, 5]], "must be consecutive"),
    (["MODEL.RETINANET.LEVELS", [6, 7]], "must start at 2..5"),
    (["MODEL.RETINANET.IN_FEATURES", ["p3"]], "MODEL.RETINANET.IN_FEATURES is ['p3'] but must be"),
    (["MODEL.FPN.TOP_BLOCK", "none"], "MODEL.RETINANET.LEVELS goes up to 7"),
    (["MODEL.FPN.NAME", "bifpn", "MODEL.RETINANET.LEVELS", [4]], "needs at least two"),
    (["MODEL.RETINANET.IOU_THRESHOLDS", [0.5, 0.4]], "must ascend"),
    (["MODEL.RETINANET.IOU_LABELS", [0, 1]], "IOU_LABELS must have one more entry"),
    (["MODEL.ANCHOR_GENERATOR.SIZES", [[32],
     [64]]], "SIZES has 2 rows, but MODEL.RETINANET.LEVELS has 5 levels; set 0 or 5 rows"),
    (["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[1.0], [2.0]]], "ASPECT_RATIOS has 2 rows"),
    (["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[1.0],
     [2.0], [1.0], [1.0], [1.0, 2.0]]], "a different number of anchors on each level"),
    (["MODEL.RETINANET.NORM", "GN", *GN],
     "32 groups, which must divide the channels; MODEL.RETINANET.HEAD_CHANNELS or MODEL.FPN.OUT_CHANNELS is 48"),
    (["MODEL.FPN.NORM", "GN", *GN], "MODEL.FPN.OUT_CHANNELS is 48"),
    (["MODEL.FPN.NAME", "bifpn", "MODEL.FPN.BIFPN_NORM", "GN", *GN], "MODEL.FPN.BIFPN_NORM GN has 32 groups"),
    (["MODEL.FPN.NAME", "bifpn", "SOLVER.IMS_PER_BATCH", 1, "INPUT.MIN_SIZE_TRAIN", (64,)],
     "MODEL.FPN.BIFPN_NORM BN needs more than one value"),
    (["MODEL.RETINANET.CLS_LOSS", "ohem_1to3", "MODEL.CLS_LOSS.OHEM_BATCH_SIZE", 3], "ohem_1to3 needs at least 4"),
    (["MODEL.RETINANET.NORM", "BN", "SOLVER.IMS_PER_BATCH", 1, "INPUT.MIN_SIZE_TRAIN", (64,)], "can be a single pixel"),
    (["MODEL.BOTTOM_UP.NAME", "build_retina_timm", "MODEL.TIMM.NAME", "resnet_fifty"],
     "MODEL.TIMM.NAME is 'resnet_fifty', which is not a model of timm"),
    (["MODEL.BOTTOM_UP.NAME", "build_retina_torchvision", "MODEL.TORCHVISION.NAME", "fcos_resnet50_fpn"],
     "is not a classifier of torchvision"),
    (["MODEL.BOTTOM_UP.NAME", "build_retina_timm", "MODEL.BACKBONE.FREEZE_AT", 2], "trains the whole network"),
    (["MODEL.RESNETS.NUM_GROUPS", 32], "ResNet-18 has no groups"),
    (["MODEL.RESNETS.RES5_DILATION", 2], "has no dilation"),
    (["MODEL.BOTTOM_UP.NAME", "build_resnet_backbone", "MODEL.RESNETS.RES5_DILATION", 2], "leaves res5 at stride 16"),
    (["MODEL.BOTTOM_UP.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res4"]],
     "leave it empty to derive it"),
    (["MODEL.BOTTOM_UP.NAME", "build_retinanet_resnet_fpn_backbone"], "already has a pyramid"),
    (["MODEL.BOTTOM_UP.NAME", "build_retina_pyramid_backbone"], "already has a pyramid"),
    (["MODEL.BACKBONE.NAME", "build_resnet_backbone"], "does not output p3"),
    (["MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"], "rotated boxes"),
    (["MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator"], "needs MODEL.ANCHOR_GENERATOR.SIZES"),
]  # fmt: skip


@pytest.mark.parametrize("opts, message", CASES, ids=lambda x: " ".join(map(str, x)) if isinstance(x, list) else "")
def test_a_contradiction_is_refused_at_start_up(opts, message):
    with pytest.raises(ValueError) as error:
        load_config(BASE, [*TINY, *opts])
    assert message in str(error.value)


ALLOWED = [
    ["SOLVER.IMS_PER_BATCH", 1, "MODEL.RETINANET.NORM", "BN", "INPUT.MIN_SIZE_TRAIN", (800,)],
    ["MODEL.RETINANET.NORM", "GN", "MODEL.FPN.OUT_CHANNELS", 64],
    ["MODEL.RETINANET.NORM", "GN", "MODEL.RETINANET.HEAD_CHANNELS", 32],
    ["MODEL.RETINANET.NORM", "GN", "MODEL.RETINANET.NUM_CONVS", 0],
    ["MODEL.TIMM.NAME", "not a network, and not read"],
]


@pytest.mark.parametrize("opts", ALLOWED, ids=lambda x: " ".join(map(str, x)))
def test_values_that_work_together_are_accepted(opts):
    load_config(BASE, [*TINY, *opts])


@pytest.mark.parametrize("depth, levels", [(18, [3, 4, 5, 6]), (50, [2, 3])])
def test_detectron2s_resnet_works_below_the_plugins_pyramid(depth, levels):
    opts = ["MODEL.BOTTOM_UP.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", depth]
    cfg = load_config(BASE, [*TINY, *opts, "MODEL.RETINANET.LEVELS", levels])
    expected = [f"res{level}" for level in levels if level <= 5]
    assert list(build_model(cfg).backbone.bottom_up.output_shape()) == expected
