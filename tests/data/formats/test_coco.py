"""COCO JSON, valid and broken."""

import json

import cv2
import numpy as np
import pytest
from format_card import read_found
from support import read_source

SPLIT = {"images": "images", "annotations": "a.json"}


@pytest.fixture()
def write(tmp_path):
    """Write and read a small dataset; the ids of its categories have gaps and are not in the order of the card."""
    (tmp_path / "images").mkdir()
    for name in ("one.jpg", "two.jpg"):
        (tmp_path / "images" / name).touch()

    plain = {"image_id": 10, "category_id": 7, "bbox": [10, 20, 30, 10], "area": 300, "iscrowd": 0}

    def write(annotations=(), images=None, categories=None):
        images = images or [
            {"id": 10, "file_name": "one.jpg", "width": 100, "height": 50},
            {"id": 20, "file_name": "two.jpg", "width": 100, "height": 50},
        ]
        categories = categories or [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
        annotations = [{"id": i, **plain, **changes} for i, changes in enumerate(annotations, start=1)]
        data = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / "a.json").write_text(json.dumps(data), encoding="utf-8")
        return read_source("coco", tmp_path, SPLIT, ["cat", "dog"])

    return write


def test_records_have_xyxy_boxes_and_labels_in_the_order_of_the_card(write):
    result = write([{}, {"category_id": 3, "iscrowd": 1}])
    assert result.problems == []
    first, second = result.records
    assert (first["image_id"], first["width"], first["height"]) == (10, 100, 50)
    assert first["file_name"].endswith("images/one.jpg")
    assert [(a["bbox"], a["category_id"], a["iscrowd"]) for a in first["annotations"]] == [
        ([10, 20, 40, 30], 1, 0),
        ([10, 20, 40, 30], 0, 1),
    ]
    assert second["annotations"] == [], "an image without objects is kept"
    assert result.metadata["thing_dataset_id_to_contiguous_id"] == {3: 0, 7: 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_id": 99}, "belongs to an image that is not listed"),
        ({"category_id": 5}, "category id 5 is not in the categories"),
        ({"bbox": [1, 2, 3]}, "bbox must be four numbers"),
        ({"bbox": ["a", 2, 3, 4]}, "bbox must be four numbers"),
        ({"bbox": None}, "bbox must be four numbers"),
        ({"bbox": [10, 10, 0, 5]}, "zero size"),
        ({"bbox": [10, 10, -4, 5]}, "corners swapped"),
        ({"bbox": [200, 10, 4, 5]}, "lies outside"),
    ],
)
def test_a_broken_annotation_is_reported_and_left_out_and_the_others_are_kept(write, changes, words):
    result = write([{}, changes])
    (problem,) = map(str, result.problems)
    assert words in problem and "a.json" in problem
    assert sum(len(record["annotations"]) for record in result.records) == 1


def test_broken_images_are_reported_and_left_out(write):
    result = write([{}], images=[
        {"id": 10, "file_name": "one.jpg", "width": 100, "height": 50},
        {"id": 10, "file_name": "two.jpg", "width": 100, "height": 50},
        {"id": 11, "file_name": "gone.jpg", "width": 100, "height": 50},
        {"id": 12, "file_name": "one.jpg", "width": 100, "height": 50},
    ])  # fmt: skip
    assert len(result.records) == 1
    problems = "\n".join(map(str, result.problems))
    assert all(words in problems for words in ("image id is used twice", "gone.jpg does not exist", "listed twice"))


def test_a_category_that_the_card_does_not_have_is_reported_by_name(write):
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 9, "name": "bird"}]
    result = write([{"category_id": 9}], categories=categories)
    assert "class 'bird' is not one of the card's classes: cat, dog (1 box left out)" in str(result.problems[0])


def test_categories_without_a_class_of_the_card_are_refused(write):
    with pytest.raises(ValueError, match=r"none of the card's classes \['cat', 'dog'\] is among them"):
        write(categories=[{"id": 7, "name": "wolf"}])
    (record, _) = write([{}], categories=[{"id": 7, "name": "dog"}]).records
    assert len(record["annotations"]) == 1, "a split need not have all classes"


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"images": []}'])
def test_a_file_that_is_not_a_coco_json_is_refused(tmp_path, text):
    (tmp_path / "images").mkdir()
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="JSON"):
        read_source("coco", tmp_path, SPLIT, ["cat"])


def test_neither_of_two_folders_with_the_same_file_names_is_guessed(tmp_path):
    picture = cv2.imencode(".png", np.zeros((50, 100, 3), np.uint8))[1].tobytes()
    for file in ("a/x.png", "b/x.png", "b/y.png"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(picture)
    images = [{"id": i, "file_name": f"{name}.png", "width": 100, "height": 50} for i, name in enumerate("xy")]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 3, 4]} for i in range(2)]
    data = {"images": images[:1], "annotations": boxes[:1], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "all.json").write_text(json.dumps(data), encoding="utf-8")
    found, (problem,) = read_found(tmp_path, "coco")
    assert found == {"all": {}} and problem.boxes == 1
    assert all(part in problem.what for part in ("may be", "a/x.png", "b/x.png"))
    (tmp_path / "all.json").write_text(json.dumps({**data, "images": images, "annotations": boxes}), encoding="utf-8")
    found, problems = read_found(tmp_path, "coco")
    box = ("cat", [1, 2, 4, 6])
    assert (found, problems) == ({"all": {0: [box], 1: [box]}}, []), "folder b has both images"
