"""Checkpoints describe themselves, and only files without code are read."""

import pickle

import numpy as np
import pytest
import torch
import torchvision
from option_pairs import pairs
from support import ROOT, SMALL, tiny_cfg

from detectron2.modeling import build_model

import retina_plugin
from retina_plugin import load_config
from retina_plugin.engine.checkpoint import RetinaCheckpointer, read_checkpoint, read_info

DIGITS = ROOT / "configs/digits/quickstart.yaml"


@pytest.fixture()
def cfg(tmp_path):
    return load_config(DIGITS, [*SMALL, "OUTPUT_DIR", str(tmp_path)])


@pytest.fixture()
def saved(cfg, tmp_path):
    model = build_model(cfg)
    model.loss_normalizer.fill_(42.0)
    RetinaCheckpointer(model, str(tmp_path), cfg=cfg).save("model", iteration=7)
    return model, tmp_path / "model.pth"


def test_a_checkpoint_describes_itself(saved, cfg):
    info = read_info(saved[1])
    assert info["version"] == retina_plugin.__version__
    assert info["class_names"] == [str(d) for d in range(10)]
    assert "NEEDS_IMPORT_RETINA_PLUGIN" in info["config"] and "DEPTH: 18" in info["config"]
    assert len(info["anchors"]) == len(cfg.MODEL.RETINANET.LEVELS) and len(info["anchors"][0]) == 9
    assert read_checkpoint(saved[1])["iteration"] == 7


def test_loading_restores_everything_including_the_loss_normaliser(saved, cfg):
    model, path = saved
    other = build_model(cfg)
    RetinaCheckpointer(other, cfg=cfg).load(str(path))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    assert other.loss_normalizer == 42.0


def test_detectron2s_own_checkpointer_reads_it(saved, cfg):
    from detectron2.checkpoint import DetectionCheckpointer

    other = build_model(cfg)
    DetectionCheckpointer(other).load(str(saved[1]))
    assert torch.equal(other.head.cls_score.weight, saved[0].head.cls_score.weight)


def test_a_pickle_of_imagenet_weights_is_read(tmp_path):
    cfg = tiny_cfg()
    model = build_model(cfg)
    array = np.full(tuple(model.backbone.bottom_up.res2[0].conv1.weight.shape), 0.5, dtype=np.float32)
    content = {"model": {"res2.0.conv1.weight": array}, "__author__": "someone", "matching_heuristics": True}
    (tmp_path / "R-18.pkl").write_bytes(pickle.dumps(content))
    RetinaCheckpointer(model, cfg=cfg).load(str(tmp_path / "R-18.pkl"))
    assert (model.backbone.bottom_up.res2[0].conv1.weight == 0.5).all()


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_file_that_would_run_code_is_not_read(cfg, tmp_path, capsys):
    torch.save({"model": {}, "extra": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="holds more than tensors"):
        RetinaCheckpointer(build_model(cfg), cfg=cfg).load(str(tmp_path / "evil.pth"))
    assert "code ran" not in capsys.readouterr().out


def test_a_third_party_checkpoint_has_no_description(tmp_path):
    torch.save({"model": {}}, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match="was not written by retina_plugin, so it holds no config"):
        read_info(tmp_path / "foreign.pth")


def test_loaded_weights_are_reported_in_a_few_lines(saved, cfg, tmp_path, caplog):
    state = {name: value for name, value in saved[0].state_dict().items() if not name.startswith("head.")}
    state["backbone.fpn_lateral3.weight"] = torch.zeros(1)
    state |= {f"classifier.{i}": torch.zeros(1) for i in range(6)}
    torch.save({"model": state}, tmp_path / "part.pth")
    with caplog.at_level("INFO"):
        RetinaCheckpointer(build_model(cfg), cfg=cfg).load(str(tmp_path / "part.pth"))
    text = caplog.text
    names = [name for name in saved[0].state_dict() if not name.endswith("num_batches_tracked")]
    count = sum(name.startswith("backbone.bottom_up.") for name in names)
    assert f"{count} of {count}" in " ".join(text.split())
    assert "1 with a different shape there: they stay as initialised" in text
    assert "not used from the file: classifier.0, classifier.1, classifier.2, classifier.3 and 2 more" in text
    assert "head.cls_subnet" not in text, "not the names of all tensors"


@pytest.mark.parametrize(
    "dropped, text",
    [
        ("head.", "the weights are incomplete, so the model would be partly untrained: head would be random"),
        ("backbone.fpn_", "neck would be random"),
    ],
)
def test_incomplete_weights_are_refused_if_all_are_needed(dropped, text, saved, cfg, tmp_path):
    state = {name: value for name, value in saved[0].state_dict().items() if not name.startswith(dropped)}
    torch.save({"model": state}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=text):
        RetinaCheckpointer(build_model(cfg), cfg=cfg).load(str(tmp_path / "part.pth"), complete=True)


def test_a_file_that_fits_nothing_is_a_warning(tmp_path, caplog):
    cfg = tiny_cfg()
    torch.save({"model": {"something.else": torch.zeros(1)}}, tmp_path / "other.pth")
    RetinaCheckpointer(build_model(cfg), cfg=cfg).load(str(tmp_path / "other.pth"))
    assert "no tensor in the weights file fits this model, which starts from random weights" in caplog.text


def test_a_detector_of_different_classes_is_loaded_but_for_its_last_layer(tmp_path, caplog):
    theirs = torchvision.models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save(theirs.state_dict(), tmp_path / "retinanet.pth")
    options = {
        "MODEL.RESNETS.DEPTH": 50,
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.FPN.OUT_CHANNELS": 256,
        "MODEL.FPN.TOP_BLOCK": "conv_p5",
        "MODEL.RETINANET.NUM_CONVS": 4,
    }
    cfg = tiny_cfg(*pairs(options))
    model = build_model(cfg)
    fresh = model.head.cls_score.weight.detach().clone()
    with caplog.at_level("INFO"):
        RetinaCheckpointer(model, cfg=cfg).load(str(tmp_path / "retinanet.pth"))
    assert "the file has 91 classes and this model 3: head.cls_score is re-initialised" in caplog.text
    assert torch.equal(model.head.cls_score.weight, fresh)
    # torchvision's anchors are ratios x sizes, here they are sizes x ratios.
    by_ratio = theirs.head.regression_head.bbox_reg.weight.view(3, 3, 4, 256, 3, 3)
    assert torch.equal(model.head.bbox_pred.weight.view(3, 3, 4, 256, 3, 3), by_ratio.transpose(0, 1))
    assert torch.equal(model.backbone.bottom_up.res3[0].conv1.weight, theirs.backbone.body.layer2[0].conv1.weight)
