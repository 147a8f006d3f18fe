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


def with_facts(checkpoint, file, **facts):
    content = torch.load(checkpoint, weights_only=True)
    content[INFO_KEY].update(facts)
    torch.save(content, file)
    return file


def test_best_scores_are_those_of_the_checkpoint_one_per_class(checkpoint, tmp_path):
    every = load_predictor(checkpoint, score_thresh=0.0, device="cpu")(IMAGE)["instances"]
    middle = float(every.scores.median())
    classes = {str(k): middle if k % 2 else 0.99 for k in range(9)}
    file = with_facts(checkpoint, tmp_path / "x.pth", thresholds={"all": 0.0, "classes": classes, "f1": 0.5})
    predictor = load_predictor(file, score_thresh="best", device="cpu")
    assert predictor.thresholds.tolist() == pytest.approx([classes.get(str(k), 0.0) for k in range(10)])
    found = predictor(IMAGE)["instances"]
    wanted = every[every.scores >= predictor.thresholds[every.pred_classes]]
    assert torch.equal(found.scores, wanted.scores) and torch.equal(found.pred_classes, wanted.pred_classes)


def test_a_checkpoint_without_thresholds_is_used_with_a_warning(checkpoint, caplog):
    predictor = load_predictor(checkpoint, score_thresh="best", device="cpu")
    assert predictor.thresholds.tolist() == [0.5] * 10 and "holds no score thresholds" in caplog.text


def test_a_path_a_folder_and_evaluation_have_equal_detections(checkpoint, tmp_path):
    """A large JPEG is decoded at a fraction of its size, as in evaluation."""
    (tmp_path / "photos").mkdir()
    large = cv2.resize(IMAGE, (1600, 1200), interpolation=cv2.INTER_CUBIC)
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(tmp_path / "photos" / name), large)
    (tmp_path / "photos/broken.jpg").write_bytes(b"x")
    predictor = load_predictor(checkpoint, score_thresh=0.0, device="cpu")
    one = predictor(tmp_path / "photos/a.jpg")["instances"]
    a, b = predictor(str(tmp_path / "photos"))
    assert a["file_name"].endswith("a.jpg") and one.image_size == (1200, 1600)
    torch.testing.assert_close(a["instances"].scores, one.scores)
    torch.testing.assert_close(b["instances"].pred_boxes.tensor, one.pred_boxes.tensor, atol=1e-2, rtol=0)


def test_arrays_may_be_rgb_and_names_are_reachable(checkpoint):
    bgr, rgb = (load_predictor(checkpoint, score_thresh=0.0, device="cpu", channels=x) for x in ("BGR", "RGB"))
    found = bgr(IMAGE)["instances"]
    assert torch.equal(found.scores, rgb(np.ascontiguousarray(IMAGE[:, :, ::-1]))["instances"].scores)
    assert not torch.equal(found.scores, rgb(IMAGE)["instances"].scores)
    assert bgr.names(found) == [str(k) for k in found.pred_classes.tolist()]
    with pytest.raises(ValueError, match="BGR or RGB"):
        load_predictor(checkpoint, device="cpu", channels="GRB")


@pytest.mark.parametrize(
    "settings", [["TEST.TILES.SIZE", 40], ["TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", [48, 64]]]
)
def test_tiles_and_augmentation_by_key_from_files_and_arrays(checkpoint, settings):
    predictor = load_predictor(checkpoint, score_thresh=0.0, device="cpu", settings=settings)
    found = predictor(IMAGE)["instances"]
    assert found.image_size == (60, 80) and len(found) > 50
    again = predictor(checkpoint.with_name("image.png"))["instances"]
    assert torch.equal(found.scores, again.scores)
    (streamed,) = predictor.run([predictor.map_array(IMAGE, "")])
    assert np.array_equal(streamed.scores, found.scores.numpy())


def test_supervision_takes_the_detections_as_they_are(checkpoint):
    supervision = pytest.importorskip("supervision")
    results = load_predictor(checkpoint, score_thresh=0.0, device="cpu")(IMAGE)
    detections = supervision.Detections.from_detectron2(results)
    assert np.allclose(detections.xyxy, results["instances"].pred_boxes.tensor.numpy())
    assert detections.class_id.tolist() == results["instances"].pred_classes.tolist()
