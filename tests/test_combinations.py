"""The table of docs/extending.md: detectors, pyramids and networks of the plugin and of Detectron2, combined."""

import numpy as np
import pytest
import torch
from support import ROOT

from retina_plugin import RetinaTrainer, load_config, load_predictor, set_up

pytestmark = pytest.mark.slow

QUICKSTART, RCNN = ROOT / "configs/digits/quickstart.yaml", ROOT / "configs/digits/faster_rcnn.yaml"
COMMON = [
    "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.NORM", "BN",
    "MODEL.FPN.OUT_CHANNELS", 64, "MODEL.FPN.NORM", "GN", "MODEL.RETINANET.NUM_CONVS", 1, "MODEL.RETINANET.NORM", "GN",
    "SOLVER.AMP.ENABLED", False, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.REFERENCE_BATCH_SIZE", 0,
    "SOLVER.MAX_ITER", 2, "SOLVER.WARMUP_ITERS", 1, "DATALOADER.NUM_WORKERS", 0,
    "INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "TEST.REPORT", False,
]  # fmt: skip


def network(name, *opts):
    """Return the options for a bottom-up network of the plugin's pyramid."""
    return ["MODEL.BOTTOM_UP.NAME", name, *opts]


def levels(first, last):
    return ["MODEL.RETINANET.LEVELS", list(range(first, last + 1))]


RETINANET = ["MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.NORM", ""]
RES2 = ["MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
RESNET = network("build_resnet_backbone", *RES2)
REGNET = network("build_retina_detectron2", "MODEL.DETECTRON2.NAME", "regnetx_400mf")
SWIN = network("build_retina_detectron2", *levels(2, 6))
BIFPN, PAFPN = ["MODEL.FPN.NAME", "bifpn", "MODEL.FPN.NORM", ""], ["MODEL.FPN.NAME", "pafpn"]
OWN = ["MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone", "MODEL.FPN.NORM", "", *levels(3, 7), *RES2]
VIT = ["MODEL.BACKBONE.NAME", "build_retina_vit_backbone", "MODEL.DETECTRON2.NAME", "vit_ti", "MODEL.FPN.NORM", "LN"]
VIT_2_TO_7 = [*VIT, *levels(2, 7), "MODEL.FPN.TOP_BLOCK", "conv_p5"]

COMBINATIONS = {
    # name: (config, options, classes of the model, its backbone and the network below)
    "plugin's model, fpn, Detectron2's ResNet": (QUICKSTART, RESNET, "RetinaPluginNet FPN ResNet"),
    "plugin's model, bifpn, Detectron2's ResNet": (QUICKSTART, [*RESNET, *BIFPN], "RetinaPluginNet BiFPN ResNet"),
    "plugin's model, Detectron2's own pyramid on ResNet": (QUICKSTART, OWN, "RetinaPluginNet FPN ResNet"),
    "plugin's model, fpn, Detectron2's RegNet": (QUICKSTART, REGNET, "RetinaPluginNet FPN RenamedBackbone"),
    "plugin's model, pafpn, Detectron2's Swin": (
        QUICKSTART,
        [*SWIN, *PAFPN],
        "RetinaPluginNet RefinedFPN RenamedBackbone",
    ),
    "plugin's model, Detectron2's ViT with its simple pyramid": (
        QUICKSTART,
        VIT,
        "RetinaPluginNet PaddedFeaturePyramid ViT",
    ),
    "plugin's model, ViT, P2 to P7": (QUICKSTART, VIT_2_TO_7, "RetinaPluginNet PaddedFeaturePyramid ViT"),
    "Detectron2's RetinaNet, fpn, plugin's ResNet": (
        QUICKSTART,
        [*RETINANET, *network("build_retina_resnet")],
        "RetinaNet FPN ResNet",
    ),
    "Detectron2's RetinaNet, bifpn, timm's EfficientNet": (
        QUICKSTART,
        [*RETINANET, *BIFPN],
        "RetinaNet BiFPN TimmBackbone",
    ),
    "Detectron2's RetinaNet, all its own": (QUICKSTART, [*RETINANET, *OWN], "RetinaNet FPN ResNet"),
    "Faster R-CNN, fpn, timm's EfficientNet": (RCNN, [], "GeneralizedRCNN FPN TimmBackbone"),
    "Faster R-CNN, pafpn, plugin's ResNet": (
        RCNN,
        [*PAFPN, *network("build_retina_resnet")],
        "GeneralizedRCNN RefinedFPN ResNet",
    ),
    "Faster R-CNN, bifpn, torchvision's MobileNetV2": (
        RCNN,
        [*BIFPN, *network("build_retina_torchvision")],
        "GeneralizedRCNN BiFPN TorchvisionBackbone",
    ),
    "Faster R-CNN, Detectron2's ViT": (RCNN, VIT, "GeneralizedRCNN PaddedFeaturePyramid ViT"),
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_combination_trains_evaluates_and_predicts(name, small_digits, tmp_path):
    config, opts, classes = COMBINATIONS[name]
    cfg = load_config(config, [*COMMON, *opts, "OUTPUT_DIR", str(tmp_path)])
    with set_up(cfg):
        trainer = RetinaTrainer(cfg)
        trainer.resume_or_load(resume=False)
        before = {key: value.clone() for key, value in trainer.detector.state_dict().items()}
        trainer.train()
    pyramid = trainer.detector.backbone
    parts = (trainer.detector, pyramid, getattr(pyramid, "bottom_up", None) or pyramid.net)
    assert [type(part).__name__ for part in parts] == classes.split()
    assert "AP" in trainer.results["bbox"]
    after = trainer.detector.state_dict()
    assert all(torch.isfinite(value.float()).all() for value in after.values())
    assert any(not torch.equal(before[key], after[key]) for key in after)
    predictor = load_predictor(tmp_path / "model_final.pth", device="cpu", score_thresh=0.0)
    found = predictor(np.full((64, 80, 3), 90, np.uint8))["instances"]
    assert found.has("pred_boxes") and predictor.metadata.thing_classes == [str(i) for i in range(10)]


def test_the_page_lists_every_combination():
    page = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    assert [name for name in COMBINATIONS if f"| {name} |" not in page] == []


UNSUITABLE = [
    ([*VIT, *levels(3, 6)], "conv_c5 reads the network's map of stride 32"),
    ([*REGNET, "MODEL.DETECTRON2.NAME", "vit_s"], "has no feature maps of several strides"),
    ([*REGNET, "MODEL.DETECTRON2.NAME", "regnet"], "MODEL.DETECTRON2.NAME is 'regnet'"),
    ([*VIT, "MODEL.DETECTRON2.NAME", "swin_t"], "build_retina_vit_backbone builds vit_ti"),
    ([*VIT, "SOLVER.FREEZE_ITERS", 1], "SOLVER.FREEZE_ITERS freezes the network below the plugin's pyramid"),
]


@pytest.mark.parametrize("opts, message", UNSUITABLE)
def test_parts_that_do_not_fit_together_are_refused(opts, message, small_digits, tmp_path):
    with pytest.raises(ValueError) as error:
        RetinaTrainer(load_config(QUICKSTART, [*COMMON, *opts, "OUTPUT_DIR", str(tmp_path)]))
    assert message in str(error.value)
