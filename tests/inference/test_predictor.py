"""Prediction from a checkpoint alone, and with Detectron2's predictor in a fresh process."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from support import ROOT, SMALL

from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from retina_plugin import load_config, load_predictor
from retina_plugin.config import dump_config
from retina_plugin.engine.checkpoint import INFO_KEY, RetinaCheckpointer
from retina_plugin.inference import RetinaPredictor

DIGITS = ROOT / "configs/digits/quickstart.yaml"
IMAGE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    cfg = load_config(DIGITS, SMALL)
    torch.manual_seed(0)
    RetinaCheckpointer(build_model(cfg), str(folder), cfg=cfg).save("model")
    (folder / "config.yaml").write_text(dump_config(cfg))
    cv2.imwrite(str(folder / "image.png"), IMAGE)
    return folder / "model.pth"


def test_prediction_needs_only_the_checkpoint(checkpoint):
    predictor = load_predictor(str(checkpoint), score_thresh=0.0, device="cpu")
    instances = predictor(IMAGE)["instances"]
    assert predictor.metadata.thing_classes == [str(d) for d in range(10)]
    assert instances.image_size == (60, 80) and len(instances) == 100
    assert len(load_predictor(str(checkpoint), score_thresh=0.9, device="cpu")(IMAGE)["instances"]) == 0


@pytest.mark.slow
def test_detectron2s_predictor_in_a_fresh_process_needs_only_the_import(checkpoint):
    config, weights = str(checkpoint.with_name("config.yaml")), str(checkpoint)
    program = f"""
import cv2, retina_plugin
from detectron2.engine import DefaultPredictor
opts = ["MODEL.WEIGHTS", {weights!r}, "MODEL.RETINANET.SCORE_THRESH_TEST", 0.0]
cfg = retina_plugin.load_config({config!r}, opts)
predictor = DefaultPredictor(cfg)
found = predictor(cv2.imread({str(checkpoint.with_name("image.png"))!r}))["instances"]
print(len(found), [predictor.metadata.thing_classes[k] for k in found.pred_classes[:3]])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith("100 ['"), result.stderr


def test_checkpoints_class_names_are_used_if_registered_ones_differ(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content[INFO_KEY]["class_names"] = [f"digit {d}" for d in range(10)]
    torch.save(content, tmp_path / "renamed.pth")
    predictor = load_predictor(str(tmp_path / "renamed.pth"), device="cpu")
    assert predictor.metadata.thing_classes[3] == "digit 3"
    assert MetadataCatalog.get("digits_val").thing_classes[3] == "3"


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_predictor(str(tmp_path / "gone.pth"))
    torch.save({"model": {}}, tmp_path / "foreign.pth")
    with pytest.raises(ValueError, match="not written by retina_plugin"):
        load_predictor(str(tmp_path / "foreign.pth"))


def test_lists_of_images_return_lists_and_lists_of_numbers_are_refused(checkpoint):
    predictor = load_predictor(checkpoint, score_thresh=0.0, device="cpu")
    one, path = predictor([IMAGE, checkpoint.with_name("image.png")])
    assert torch.equal(one["instances"].scores, predictor(IMAGE)["instances"].scores)
    assert len(path["instances"]) == 100 and predictor([]) == []
    with pytest.raises(TypeError, match="a list of images"):
        predictor([[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="1 x 5000 .* would have no pixels left"):
        predictor(np.zeros((1, 5000, 3), np.uint8))


def test_weights_that_leave_the_head_untrained_are_refused(checkpoint):
    config = str(checkpoint.with_name("config.yaml"))
    with pytest.raises(ValueError, match="untrained"):
        RetinaPredictor(load_config(config))  # its weights are those that training started from
    content = torch.load(checkpoint, weights_only=True)
    content["model"] = {name: x for name, x in content["model"].items() if not name.startswith("head.")}
    torch.save(content, checkpoint.with_name("headless.pth"))
    with pytest.raises(ValueError, match="head would be random"):
        load_predictor(checkpoint.with_name("headless.pth"), device="cpu")


def test_keys_of_a_newer_detectron2_are_dropped_with_a_warning(checkpoint, caplog):
    content = torch.load(checkpoint, weights_only=True)
    content[INFO_KEY]["config"] += "NEW_NODE:\n  DEEP:\n    KEY: 1\nNEW_KEY: [1, 2]\n"
    content[INFO_KEY]["config"] = content[INFO_KEY]["config"].replace("SOLVER:\n", "SOLVER:\n  NEWER: true\n", 1)
    torch.save(content, checkpoint.with_name("newer.pth"))
    with caplog.at_level("WARNING"):
        predictor = load_predictor(checkpoint.with_name("newer.pth"), device="cpu")
    assert len(predictor.metadata.thing_classes) == 10
    assert all(key in caplog.text for key in ("SOLVER.NEWER", "NEW_NODE.DEEP.KEY", "NEW_KEY"))


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "mps:7"])
def test_unknown_device_is_refused(checkpoint, device):
    with pytest.raises(ValueError, match=f"MODEL.DEVICE|{device}"):
        load_predictor(checkpoint, device=device)


def test_damaged_checkpoint_is_refused(checkpoint, tmp_path):
    for name, data in {"cut.pth": checkpoint.read_bytes()[:5000], "empty.pth": b"", "text.pth": b"hello"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            load_predictor(tmp_path / name)
