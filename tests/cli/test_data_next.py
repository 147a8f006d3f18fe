"""retina data next as people call it."""

import csv
import json
import os

import pytest
from exported import photos, small_checkpoint

from retina_plugin.cli.data_next import newest_model
from retina_plugin.cli.main import main
from retina_plugin.data.digits import generate_digits
from retina_plugin.data.discover import find_card

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("next")
    small_checkpoint(folder)
    photos(folder / "photos", [(60, 80), (70, 50), (64, 64), (90, 50), (50, 90)])
    (folder / "photos/broken.jpg").write_text("no image")
    generate_digits(folder / "numbers", splits={"train": 4, "val": 3})
    return folder


@pytest.fixture(autouse=True)
def here(folder, small_digits, monkeypatch):
    monkeypatch.chdir(folder)


def choose(*words):
    return main(["data", "next", "--model", "model.pth", "--device", "cpu", *words])


def test_images_are_chosen_with_labels_to_correct_and_broken_ones_are_named(folder, capsys):
    assert choose("photos", "--budget", "3", "--output", "a", "--draw") == 1
    said = capsys.readouterr().out
    assert "3 images chosen" in said and "photos/broken.jpg " in said
    files = (folder / "a/next.txt").read_text().splitlines()
    assert len(set(files)) == 3 and all(os.path.isfile(file) for file in files)
    labels = json.loads((folder / "a/labels/predictions.json").read_text())
    with open(folder / "a/next.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(labels["images"]) == 3 and sum(int(x["detections"]) for x in rows) == len(labels["annotations"])
    assert float(rows[0]["uncertainty"]) >= max(float(x["uncertainty"]) for x in rows[1:])
    assert len(list((folder / "a/labels/pictures").iterdir())) == 3


def test_labels_in_the_format_of_a_labelling_tool(folder):
    assert choose("photos/0.png", "photos/1.png", "--format", "labelme", "--output", "b") == 0
    assert len(list((folder / "b/labels/labelme").rglob("*.json"))) == 2


def test_labelled_images_are_left_out(folder, capsys):
    assert choose("numbers/train", "photos/0.png", "--labelled", "numbers", "--output", "c") == 0
    assert "5 images, 4 of them labelled already" in capsys.readouterr().out
    assert (folder / "c/next.txt").read_text().splitlines() == [str(folder / "photos/0.png")]


def test_the_images_of_the_datasets_in_the_config_are_left_out(folder, small_digits, capsys):
    assert choose(str(small_digits / "train"), "photos/0.png", "--output", "g") == 0
    assert "9 images, 8 of them labelled already" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["photos", "--budget", "0"], "--budget and --batch must be at least 1"),
        (["numbers/train", "--labelled", "numbers", "--output", "d"], "all images are labelled already"),
        (["photos/broken.jpg", "--output", "e"], "none of the 1 images can be read"),
        (["photos", "--format", "xyz", "--output", "f"], "'xyz' cannot be written"),
        (["gone"], "gone does not exist"),
        (["photos", "--model", "x.onnx"], "--model takes a checkpoint"),
    ],
)
def test_mistakes_are_named(words, message, capsys):
    assert choose(*words) == 2
    assert message in capsys.readouterr().err


def test_the_newest_model_is_taken_unless_one_is_given(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "next", str(folder / "photos")]) == 2
    assert "no model_best.pth below output; give --model" in capsys.readouterr().err
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_best.pth").touch()
    os.utime(tmp_path / "old/model_best.pth", (0, 0))
    assert newest_model(tmp_path) == tmp_path / "new/model_best.pth"
    assert find_card(folder / "numbers").name == "numbers"
