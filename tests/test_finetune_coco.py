"""Fine-tuning from COCO detectors: files of the published shape load, but for the class layer, and train."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from support import ROOT
from torchvision.models.detection import retinanet_resnet50_fpn_v2

from detectron2 import model_zoo
from detectron2.modeling import build_model

from retina_plugin import load_config
from retina_plugin.engine import RetinaTrainer

pytestmark = pytest.mark.slow


def detectron2s_file(path):
    """Write a file as in Detectron2's model zoo: a pickle of arrays, of a RetinaNet R-50 with 80 classes."""
    cfg = model_zoo.get_config("COCO-Detection/retinanet_R_50_FPN_3x.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    state = {name: tensor.numpy() for name, tensor in build_model(cfg).state_dict().items()}
    state = {name: value for name, value in state.items() if "anchor_generator" not in name}
    with open(path, "wb") as file:
        pickle.dump({"model": state, "__author__": "Detectron2 Model Zoo"}, file)
    return state["head.bbox_pred.weight"], state["backbone.bottom_up.res5.2.conv3.weight"]


def torchvisions_file(path):
    """Write a file as torchvision publishes it: the state dict of a RetinaNet with 91 classes."""
    model = retinanet_resnet50_fpn_v2(weights=None, weights_backbone=None)
    torch.save(model.state_dict(), path)
    # torchvision's anchors are ratios x sizes, the plugin's sizes x ratios
    by_ratio = model.head.regression_head.bbox_reg.weight.view(3, 3, 4, 256, 3, 3)
    return by_ratio.transpose(0, 1).reshape(36, 256, 3, 3), model.backbone.body.layer4[2].conv3.weight


@pytest.mark.parametrize(
    ("config", "write", "name", "theirs"),
    [
        ("finetune_coco", detectron2s_file, "model.pkl", 80),
        ("finetune_coco_torchvision", torchvisions_file, "model.pth", 91),
    ],
)
def test_a_file_of_the_published_shape_loads_and_trains(config, write, name, theirs, small_digits, tmp_path, caplog):
    box_layer, last_convolution = (np.asarray(torch.as_tensor(x).detach()) for x in write(tmp_path / name))
    options = {
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": str(tmp_path / name),
        "DATASETS.TRAIN": ("digits_train",),
        "DATASETS.TEST": ("digits_val",),
        "INPUT.MIN_SIZE_TRAIN": (96,),
        "INPUT.MIN_SIZE_TEST": 96,
        "SOLVER.EPOCHS": 0,
        "SOLVER.MAX_ITER": 2,
        "SOLVER.WARMUP_ITERS": 1,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.AMP.ENABLED": False,
        "TEST.EARLY_STOP_PATIENCE": 0,
        "DATALOADER.NUM_WORKERS": 0,
        "OUTPUT_DIR": str(tmp_path / "run"),
    }
    cfg = load_config(ROOT / f"configs/{config}.yaml", [word for pair in options.items() for word in pair])
    trainer = RetinaTrainer(cfg)
    fresh = trainer.model.head.cls_score.weight.detach().clone()
    with caplog.at_level("INFO"):
        trainer.resume_or_load()
    assert f"the file has {theirs} classes and this model 10: head.cls_score is re-initialised" in caplog.text
    state = trainer.model.state_dict()
    assert torch.equal(state["head.cls_score.weight"], fresh)
    assert np.array_equal(state["head.bbox_pred.weight"].numpy(), box_layer)
    assert np.array_equal(state["backbone.bottom_up.res5.2.conv3.weight"].numpy(), last_convolution)
    assert state["head.cls_score.weight"].shape[0] == 9 * 10
    with torch.no_grad():  # untrained frozen normalisation would let the signal explode
        for key, value in state.items():
            if "bottom_up" in key and key.endswith("norm.weight"):
                value.fill_(0.3)
    trainer.train()
    assert (tmp_path / "run/model_final.pth").is_file()
    shutil.rmtree(tmp_path / "run")


def test_the_address_of_detectron2s_file_is_that_of_its_model_zoo():
    ours = load_config(ROOT / "configs/finetune_coco.yaml", ["MODEL.RETINANET.NUM_CLASSES", 3]).MODEL.WEIGHTS
    theirs = model_zoo.get_checkpoint_url("COCO-Detection/retinanet_R_50_FPN_3x.yaml")
    assert theirs.endswith(ours.removeprefix("detectron2://"))
