"""retina predict as people call it."""

import json

import cv2
import numpy as np
import pytest
import torch
from support import DIGITS_CONFIG, SMALL

from detectron2.modeling import build_model

from retina_plugin import load_config
from retina_plugin.cli.main import main
from retina_plugin.engine.checkpoint import RetinaCheckpointer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    cfg = load_config(DIGITS_CONFIG, SMALL)
    torch.manual_seed(0)
    checkpointer = RetinaCheckpointer(build_model(cfg), str(folder), cfg=cfg)
    checkpointer.save("bare")
    checkpointer.facts = {"thresholds": {"all": 0.001, "classes": {}, "f1": 0.5}, "image_size": [60, 80]}
    checkpointer.save("model")
    (folder / "photos").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 255, (60 + i, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"photos/{i}.png"), pixels)
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def found(file):
    content = json.loads(file.read_text())
    return len(content["images"]), len(content["annotations"])


def test_a_folder_becomes_a_json_file_and_pictures(folder, capsys):
    assert main(["predict", "model.pth", "photos", "--device", "cpu", "--draw", "--output", "a"]) == 0
    assert found(folder / "a/predictions.json") == (5, 500) and len(list((folder / "a/pictures").iterdir())) == 5
    printed = capsys.readouterr().out
    assert "5 images, 500 objects in" in printed and "images/s (reading" in printed


def test_broken_files_are_named_at_the_end_and_the_exit_code_tells(folder, capsys):
    (folder / "bad").mkdir(exist_ok=True)
    (folder / "bad/text.jpg").write_text("no image")
    words = ["photos/0.png", "bad/text.jpg", "photos/1.png"]
    assert main(["predict", "model.pth", *words, "--device", "cpu", "--output", "b", "--workers", "2"]) == 1
    assert found(folder / "b/predictions.json") == (2, 200)
    assert "1 of the images could not be read:\n  bad/text.jpg: " in capsys.readouterr().out


def test_without_an_output_folders_are_numbered(folder):
    for expected in ("predict", "predict_2"):
        assert main(["predict", "model.pth", "photos/0.png", "--device", "cpu", "--score", "0.9"]) == 0
        assert found(folder / "output" / expected / "predictions.json") == (1, 0)


def test_a_checkpoint_without_thresholds_is_said(capsys):
    assert main(["predict", "bare.pth", "photos/0.png", "--device", "cpu"]) == 0
    assert "holds no score thresholds" in capsys.readouterr().out


@pytest.mark.parametrize("options, images", [(["--tiles", "auto"], 1), (["--tiles", "40"], 1), (["--tta"], 1)])
def test_tiles_and_augmentation(folder, options, images):
    output = f"c{'_'.join(options)}"
    assert main(["predict", "model.pth", "photos/0.png", "--device", "cpu", *options, "--output", output]) == 0
    assert found(folder / output / "predictions.json")[0] == images


@pytest.mark.parametrize(
    "words, message",
    [
        (["gone.pth", "photos"], "gone.pth does not exist"),
        (["model.pth", "nowhere"], "nowhere does not exist"),
        (["model.pth", "photos", "--score", "1.5"], "--score must be"),
        (["model.pth", "photos", "--batch", "0"], "--batch must be at least 1"),
        (["model.pth", "photos", "--format", "pascal"], "cannot be written; known:"),
        (["model.pth", "photos", "--tiles", "big"], "a number of pixels or auto"),
        (["bare.pth", "photos", "--tiles", "auto"], "give the side of the tiles"),
        (["model.pth", "photos", "--output", "photos"], "not empty"),
        (["model.pth", "photos", "--set", "TEST.TILE.SIZE=4"], "TEST.TILES.SIZE"),
    ],
)
def test_mistakes_are_named(words, message, capsys):
    assert main(["predict", *words, "--device", "cpu"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and "Traceback" not in error
