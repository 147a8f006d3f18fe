"""Files of predictions: every format is read back with the boxes that were predicted."""

import json

import cv2
import numpy as np
import pytest

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.discover import discover
from retina_plugin.data.load import load_split
from retina_plugin.inference.output import PredictionFiles
from retina_plugin.inference.stream import Found, Prediction

NAMES = ["cat", "dog"]
BOXES = [[1.5, 2.0, 30.0, 20.25], [40.0, 10.0, 60.0, 35.0]]


def found(boxes=BOXES, labels=(1, 0), scores=(0.9, 0.3125)):
    n = len(boxes)
    return Found(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores[:n], np.float32), np.array(labels[:n]))


@pytest.fixture()
def photos(tmp_path):
    files = []
    for name in ("one/a.png", "two/a.png", "empty.png"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((40, 64, 3), 128, np.uint8))
        files.append(str(file))
    return files


def records_of(card):
    """All records; what is discovered without splits is divided into training and validation images."""
    return [record for split in card.splits for record in load_split(card, split).records]


def write(folder, photos, **options):
    files = PredictionFiles(folder, NAMES, **options)
    for name in photos:
        files.add(Prediction(name, height=40, width=64, found=found(BOXES if "empty" not in name else [])))
    files.add(Prediction("broken.png", error="is empty"))
    return files, files.close()


@pytest.mark.parametrize("name", ["yolo", "voc", "labelme"])
def test_datasets_are_read_back_as_training_data(tmp_path, photos, name):
    _, (folder,) = write(tmp_path / "out", photos, formats=[name])
    card = DatasetCard.from_file(folder / "predictions.yaml")
    if name != "voc":  # whose images are outside of the folder, which only the card allows
        assert discover(folder).format == name
    assert card.format == name and set(card.classes) == set(NAMES)
    by_image = [
        sorted((card.classes[x["category_id"]], *x["bbox"]) for x in r["annotations"]) for r in records_of(card)
    ]
    assert sorted(map(len, by_image)) == [0, 2, 2]
    expected = [("cat", *BOXES[1]), ("dog", *BOXES[0])]
    for boxes in filter(None, by_image):
        for ours, theirs in zip(boxes, expected, strict=True):
            assert ours[0] == theirs[0] and ours[1:] == pytest.approx(theirs[1:], abs=0.51 if name == "voc" else 0.01)


@pytest.mark.parametrize("name", ["coco", "csv"])
def test_one_file_has_the_scores_and_can_be_trained_on(tmp_path, photos, name):
    _, (file,) = write(tmp_path / "out", photos, formats=[name])
    text = file.read_text()
    assert "0.3125" in text and file.parent == tmp_path / "out"
    card = discover(file)
    assert sorted(len(r["annotations"]) for r in records_of(card)) == [0, 2, 2]


def test_cocos_file_names_lead_from_it_to_the_images(tmp_path, photos):
    _, (file,) = write(tmp_path / "out", photos)
    content = json.loads(file.read_text())
    assert [(file.parent / x["file_name"]).resolve().is_file() for x in content["images"]] == [True] * 3
    assert [x["score"] for x in content["annotations"]] == [0.9, 0.3125, 0.9, 0.3125]
    assert content["annotations"][0]["bbox"] == [1.5, 2.0, 28.5, 18.25]


def test_pictures_of_the_same_name_do_not_replace_each_other(tmp_path, photos):
    files, written = write(tmp_path / "out", photos, draw=True)
    assert sorted(x.name for x in written[-1].iterdir()) == ["a.jpg", "a_2.jpg", "empty.jpg"]
    picture = cv2.imread(str(written[-1] / "a.jpg"))
    assert picture.shape == (40, 64, 3) and np.ptp(picture) > 50
    assert np.ptp(cv2.imread(str(written[-1] / "empty.jpg"))) < 5
    assert [x.name for x in files.failed] == ["broken.png"]


def test_frames_become_a_video_and_files_where_a_format_needs_them(tmp_path):
    files = PredictionFiles(tmp_path / "out", NAMES, formats=["coco", "yolo"], draw=True)
    for number in range(3):
        pixels = np.full((40, 64, 3), 50, np.uint8)
        files.add(Prediction("clip.mp4", frame=number, height=40, width=64, found=found(), pixels=pixels))
    files.close()
    capture = cv2.VideoCapture(str(tmp_path / "out/pictures/clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert sorted(x.name for x in (tmp_path / "out/frames").iterdir())[0] == "clip_000000.jpg"
    assert len(records_of(discover(tmp_path / "out/yolo"))) == 3


def test_a_folder_with_files_is_not_written_to(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match="not empty"):
        PredictionFiles(tmp_path, NAMES)


def test_an_unknown_format_is_refused_before_anything_is_predicted(tmp_path):
    with pytest.raises(ValueError, match="cannot be written; known: "):
        PredictionFiles(tmp_path / "new", NAMES, formats=["pascal"])
    assert not (tmp_path / "new").exists()
