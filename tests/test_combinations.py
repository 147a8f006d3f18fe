"""The table of docs/extending.md: detectors, pyramids and networks of the plugin and of Detectron2 in one another's place, trained and asked."""

import numpy as np
import pytest
import torch
from conftest import ROOT

from retina_plugin import RetinaTrainer, load_config, load_predictor, set_up

QUICKSTART, RCNN = ROOT / "configs/digits/quickstart.yaml", ROOT / "configs/digits/faster_rcnn.yaml"
COMMON = [
    "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.FPN.OUT_CHANNELS", 64, "MODEL.RETINANET.NUM_CONVS", 1, "SOLVER.AMP.ENABLED", False, "SOLVER.IMS_PER_BATCH", 2,
    "SOLVER.REFERENCE_BATCH_SIZE", 0, "SOLVER.MAX_ITER", 2, "SOLVER.WARMUP_ITERS", 1, "DATALOADER.NUM_WORKERS", 0, "INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64,
    "TEST.REPORT", False, "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.NORM", "BN", "MODEL.FPN.NORM", "GN", "MODEL.RETINANET.NORM", "GN",
]  # fmt: skip
DETECTRON2S = ["MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.NORM", ""]
RESNET = ["MODEL.BOTTOM_UP.NAME", "build_resnet_backbone", "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
OWN = [
    "MODEL.BACKBONE.NAME",
    "build_retinanet_resnet_fpn_backbone",
    "MODEL.RETINANET.LEVELS",
    [3, 4, 5, 6, 7],
    "MODEL.RESNETS.RES2_OUT_CHANNELS",
    64,
    "MODEL.FPN.NORM",
    "",
]
VIT = ["MODEL.BACKBONE.NAME", "build_retina_vit_backbone", "MODEL.DETECTRON2.NAME", "vit_ti", "MODEL.FPN.NORM", "LN"]

COMBINATIONS = {
    # name: config, options, class of the model, of the backbone, of what is below
    "plugin's model, fpn, Detectron2's ResNet": (QUICKSTART, RESNET, "RetinaPluginNet", "FPN", "ResNet"),
    "plugin's model, bifpn, Detectron2's ResNet": (QUICKSTART, [*RESNET, "MODEL.FPN.NAME", "bifpn", "MODEL.FPN.NORM", ""], "RetinaPluginNet", "BiFPN", "ResNet"),
    "plugin's model, Detectron2's own pyramid on ResNet": (QUICKSTART, OWN, "RetinaPluginNet", "FPN", "ResNet"),
    "plugin's model, fpn, Detectron2's RegNet": (QUICKSTART, ["MODEL.BOTTOM_UP.NAME", "build_retina_detectron2", "MODEL.DETECTRON2.NAME", "regnetx_400mf"], "RetinaPluginNet", "FPN", "RenamedBackbone"),
    "plugin's model, pafpn, Detectron2's Swin": (
        QUICKSTART, ["MODEL.BOTTOM_UP.NAME", "build_retina_detectron2", "MODEL.FPN.NAME", "pafpn", "MODEL.RETINANET.LEVELS", [2, 3, 4, 5, 6]], "RetinaPluginNet", "RefinedFPN", "RenamedBackbone"),
    "plugin's model, Detectron2's ViT with its simple pyramid": (QUICKSTART, VIT, "RetinaPluginNet", "PaddedFeaturePyramid", "ViT"),
    "plugin's model, ViT, P2 to P7": (QUICKSTART, [*VIT, "MODEL.RETINANET.LEVELS", [2, 3, 4, 5, 6, 7], "MODEL.FPN.TOP_BLOCK", "conv_p5"], "RetinaPluginNet", "PaddedFeaturePyramid", "ViT"),
    "Detectron2's RetinaNet, fpn, plugin's ResNet": (QUICKSTART, [*DETECTRON2S, "MODEL.BOTTOM_UP.NAME", "build_retina_resnet"], "RetinaNet", "FPN", "ResNet"),
    "Detectron2's RetinaNet, bifpn, timm's EfficientNet": (QUICKSTART, [*DETECTRON2S, "MODEL.FPN.NAME", "bifpn", "MODEL.FPN.NORM", ""], "RetinaNet", "BiFPN", "TimmBackbone"),
    "Detectron2's RetinaNet, all its own": (QUICKSTART, [*DETECTRON2S, *OWN], "RetinaNet", "FPN", "ResNet"),
    "Faster R-CNN, fpn, timm's EfficientNet": (RCNN, [], "GeneralizedRCNN", "FPN", "TimmBackbone"),
    "Faster R-CNN, pafpn, plugin's ResNet": (RCNN, ["MODEL.FPN.NAME", "pafpn", "MODEL.BOTTOM_UP.NAME", "build_retina_resnet"], "GeneralizedRCNN", "RefinedFPN", "ResNet"),
    "Faster R-CNN, bifpn, torchvision's MobileNetV2": (
        RCNN, ["MODEL.FPN.NAME", "bifpn", "MODEL.FPN.NORM", "", "MODEL.BOTTOM_UP.NAME", "build_retina_torchvision"], "GeneralizedRCNN", "BiFPN", "TorchvisionBackbone"),
    "Faster R-CNN, Detectron2's ViT": (RCNN, VIT, "GeneralizedRCNN", "PaddedFeaturePyramid", "ViT"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_combination_trains_evaluates_and_predicts(name, small_digits, tmp_path):
    config, opts, model, backbone, below = COMBINATIONS[name]
    cfg = load_config(config, [*COMMON, *opts, "OUTPUT_DIR", str(tmp_path)])
    with set_up(cfg):
        trainer = RetinaTrainer(cfg)
        trainer.resume_or_load(resume=False)
        before = {key: value.clone() for key, value in trainer.detector.state_dict().items()}
        trainer.train()
    pyramid = trainer.detector.backbone
    kinds = (trainer.detector, pyramid, getattr(pyramid, "bottom_up", None) or pyramid.net)
    assert tuple(type(part).__name__ for part in kinds) == (model, backbone, below)
    assert "AP" in trainer.results["bbox"]
    after = trainer.detector.state_dict()
    assert all(torch.isfinite(value.float()).all() for value in after.values()) and any(
        not torch.equal(before[key], after[key]) for key in after
    )
    predictor = load_predictor(tmp_path / "model_final.pth", device="cpu", score_thresh=0.0)
    found = predictor(np.full((64, 80, 3), 90, np.uint8))["instances"]
    assert found.has("pred_boxes") and predictor.metadata.thing_classes == [str(i) for i in range(10)]


def test_the_page_has_the_table():
    page = (ROOT / "docs/extending.md").read_text()
    assert [name for name in COMBINATIONS if f"| {name} |" not in page] == []


@pytest.mark.parametrize("opts, said", [
    ([*VIT, "MODEL.RETINANET.LEVELS", [3, 4, 5, 6]], "conv_c5 reads the network's map of stride 32"),
    (["MODEL.BOTTOM_UP.NAME", "build_retina_detectron2", "MODEL.DETECTRON2.NAME", "vit_s"], "has no feature maps of several strides"),
    (["MODEL.BOTTOM_UP.NAME", "build_retina_detectron2", "MODEL.DETECTRON2.NAME", "regnet"], "MODEL.DETECTRON2.NAME is 'regnet'"),
    ([*VIT, "MODEL.DETECTRON2.NAME", "swin_t"], "build_retina_vit_backbone makes vit_ti"),
    ([*VIT, "SOLVER.FREEZE_ITERS", 1], "SOLVER.FREEZE_ITERS keeps the network below the plugin's pyramid"),
])  # fmt: skip
def test_what_does_not_fit_is_named(opts, said, small_digits, tmp_path):
    with pytest.raises(ValueError) as error:
        RetinaTrainer(load_config(QUICKSTART, [*COMMON, *opts, "OUTPUT_DIR", str(tmp_path)]))
    assert said in str(error.value)
