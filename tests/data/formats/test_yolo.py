"""YOLO's text files, valid and broken."""

import numpy as np
import pytest
import yaml
from PIL import Image
from support import SAMPLE, read_source


@pytest.fixture()
def write(tmp_path):
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (200, 100)).save(tmp_path / "images/train/a.png")

    def write(text, **split):
        if text is not None:
            (tmp_path / "labels/train/a.txt").write_text(text, encoding="utf-8")
        return read_source("yolo", tmp_path, {"images": "images/train", **split}, ["cat", "dog"])

    return write


def test_fractions_become_pixels_and_polygons_become_boxes(write):
    (record,) = write("1 0.5 0.5 0.1 0.2\n\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.4\n").records
    assert (record["height"], record["width"], record["image_id"]) == (100, 200, "images/train/a.png")
    dog, cat = record["annotations"]
    assert dog["category_id"] == 1 and dog["bbox"] == pytest.approx([90, 40, 110, 60])
    assert cat["category_id"] == 0 and cat["bbox"] == pytest.approx([20, 20, 60, 60])


def test_an_image_without_labels_has_no_objects_or_is_in_another_split(write):
    assert write(None).records[0]["annotations"] == []
    assert write(None, only_labelled=True).records == []


def test_lists_of_images_and_folders_of_labels(write, tmp_path):
    (tmp_path / "train.txt").write_text("images/train/a.png\n", encoding="utf-8")
    assert write("0 0.5 0.5 0.1 0.1", images="train.txt").boxes_used == 1
    assert write("0 0.5 0.5 0.1 0.1", images=["images/train"], labels="labels/train").boxes_used == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cat 0.5 0.5 0.1 0.1", "line must be numbers"),
        ("2 0.5 0.5 0.1 0.1", "class 2 is not one of 0..1"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 is not"),
        ("0 0.5 0.5 0.1", "must have 4 numbers after the class, or the x y pairs of a polygon, got 3"),
        ("0 50 50 10 10", "are pixels, but fractions"),
        ("0 0.5 0.5 0 0.1", "zero size"),
        ("0 0.5 0.5 nan 0.1", "not finite"),
        ("0 1.0 0.5 0.5 0.1", "extends beyond the image of 200x100"),
    ],
)
def test_a_wrong_line_is_reported(write, line, words):
    (problem,) = map(str, write(f"1 0.2 0.2 0.1 0.1\n{line}\n").problems)
    assert words in problem and "annotation 2" in problem and "a.txt" in problem


def test_a_broken_image_and_a_missing_folder_are_reported(write, tmp_path):
    (tmp_path / "images/train/a.png").write_bytes(b"not an image")
    result = write("0 0.5 0.5 0.1 0.1")
    assert result.records == [] and "cannot be read" in str(result.problems[0])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write(None, images="nowhere")
    with pytest.raises(ValueError, match="no 'images'"):
        read_source("yolo", tmp_path, {}, ["cat"])


@pytest.mark.parametrize(
    ("option", "value"),
    [("images", 5), ("images", None), ("images", [5]), ("ids", 5), ("ids", [[1]]), ("ids", ["1"]), ("keypoints", "x")],
)
def test_an_option_of_a_wrong_type_is_refused(write, option, value):
    with pytest.raises(ValueError, match=f"{option} must be"):
        write("0 0.5 0.5 0.1 0.1", **{option: value})


def test_numbers_after_a_box_are_skipped_if_the_card_declares_them(write):
    """Two keypoints of three numbers each; without the option the line would be a polygon of five corners."""
    line = "1 0.5 0.5 0.1 0.2 0.5 0.5 2 0.4 0.4 1"
    (record,) = write(line, keypoints=6, ids=[5, 1]).records
    assert record["annotations"][0]["bbox"] == pytest.approx([90, 40, 110, 60])
    assert record["annotations"][0]["category_id"] == 1


@pytest.mark.parametrize(("part", "crowds"), [("train", 1), ("val", 0)])
def test_a_real_sample_is_the_same_from_text_and_from_json(part, crowds):
    """Text has six digits of a fraction, JSON pixels; crowd regions exist in JSON only."""
    names = yaml.safe_load((SAMPLE / "original/data.yaml").read_text(encoding="utf-8"))["names"]
    classes = [names[i] for i in range(4)]
    source = {"images": "images", "labels": f"original/labels/{part}", "only_labelled": True}
    text = read_source("yolo", SAMPLE, source, classes)
    table = read_source("coco", SAMPLE, {"images": "images", "annotations": f"instances_{part}.json"}, classes)
    assert text.problems == table.problems == []
    expected = {}
    for record in table.records:
        expected[record["file_name"]] = [x for x in record["annotations"] if not x["iscrowd"]]
    assert table.boxes_used - sum(map(len, expected.values())) == crowds
    assert {record["file_name"] for record in text.records} == {name for name, found in expected.items() if found}
    for record in text.records:
        theirs = expected[record["file_name"]]
        assert len(record["annotations"]) == len(theirs)
        for x in record["annotations"]:
            same = [y["bbox"] for y in theirs if y["category_id"] == x["category_id"]]
            assert min(np.abs(np.array(x["bbox"]) - box).max() for box in same) < 0.001
