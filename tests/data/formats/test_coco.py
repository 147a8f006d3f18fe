"""COCO JSON, sound and broken."""

import json

import cv2
import numpy as np
import pytest
from conftest import read_source
from format_card import read_found

SPLIT = {"images": "images", "annotations": "a.json"}


@pytest.fixture()
def write(tmp_path):
    """Write a small data set with changes; its categories have gaps and another order than the card."""
    (tmp_path / "images").mkdir()
    for name in ("one.jpg", "two.jpg"):
        (tmp_path / "images" / name).touch()

    def annotation(number, **changes):
        return {
            "id": number,
            "image_id": 10,
            "category_id": 7,
            "bbox": [10, 20, 30, 10],
            "area": 300,
            "iscrowd": 0,
            **changes,
        }

    def write(annotations=(), images=None, categories=None):
        images = images or [
            {"id": 10, "file_name": "one.jpg", "width": 100, "height": 50},
            {"id": 20, "file_name": "two.jpg", "width": 100, "height": 50},
        ]
        categories = categories or [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
        annotations = [annotation(i, **changes) for i, changes in enumerate(annotations, start=1)]
        (tmp_path / "a.json").write_text(
            json.dumps({"images": images, "annotations": annotations, "categories": categories})
        )
        return read_source("coco", tmp_path, SPLIT, ["cat", "dog"])

    return write


def test_records_have_xyxy_boxes_and_labels_in_the_order_of_the_card(write):
    result = write([{}, {"category_id": 3, "iscrowd": 1}])
    assert result.problems == []
    first, second = result.records
    assert (first["image_id"], first["width"], first["height"]) == (10, 100, 50) and first["file_name"].endswith(
        "images/one.jpg"
    )
    assert [(a["bbox"], a["category_id"], a["iscrowd"]) for a in first["annotations"]] == [
        ([10, 20, 40, 30], 1, 0),
        ([10, 20, 40, 30], 0, 1),
    ]
    assert second["annotations"] == [], "an image without objects stays"
    assert result.metadata["thing_dataset_id_to_contiguous_id"] == {3: 0, 7: 1}


@pytest.mark.parametrize(
    "changes, said",
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
def test_a_broken_annotation_is_named_and_left_out_and_the_others_stay(write, changes, said):
    result = write([{}, changes])
    assert len(result.problems) == 1 and said in str(result.problems[0]) and "a.json" in str(result.problems[0])
    assert sum(len(record["annotations"]) for record in result.records) == 1


def test_broken_images_are_named_and_left_out(write):
    result = write([{}], images=[
        {"id": 10, "file_name": "one.jpg", "width": 100, "height": 50},
        {"id": 10, "file_name": "two.jpg", "width": 100, "height": 50},
        {"id": 11, "file_name": "gone.jpg", "width": 100, "height": 50},
        {"id": 12, "file_name": "one.jpg", "width": 100, "height": 50},
    ])  # fmt: skip
    said = "\n".join(map(str, result.problems))
    assert len(result.records) == 1
    assert "image id is used twice" in said and "gone.jpg does not exist" in said and "listed twice" in said


def test_a_category_that_the_card_does_not_have_is_left_out_by_name(write):
    result = write(
        [{"category_id": 9}], categories=[{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 9, "name": "bird"}]
    )
    assert "class 'bird' is not one of the card's: cat, dog (1 box left out)" in str(result.problems[0])


def test_categories_without_a_class_of_the_card_are_refused(write):
    with pytest.raises(ValueError, match=r"none of the card's classes \['cat', 'dog'\] is among them"):
        write(categories=[{"id": 7, "name": "wolf"}])
    assert len(write([{}], categories=[{"id": 7, "name": "dog"}]).records[0]["annotations"]) == 1, (
        "a split need not have them all"
    )


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"images": []}'])
def test_a_file_that_is_no_coco_json_is_refused(tmp_path, text):
    (tmp_path / "images").mkdir()
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match="JSON"):
        read_source("coco", tmp_path, SPLIT, ["cat"])


def test_of_two_folders_with_the_same_names_none_is_guessed(tmp_path):
    picture = cv2.imencode(".png", np.zeros((50, 100, 3), np.uint8))[1].tobytes()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(picture)
    (tmp_path / "b/y.png").write_bytes(picture)
    images = [{"id": i, "file_name": f"{name}.png", "width": 100, "height": 50} for i, name in enumerate("xy")]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 3, 4]} for i in range(2)]
    data = {"images": images[:1], "annotations": boxes[:1], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "all.json").write_text(json.dumps(data))
    ((problem,), found) = read_found(tmp_path, "coco")[::-1]
    assert (
        found == {"all": {}}
        and "may be" in problem.what
        and "a/x.png" in problem.what
        and "b/x.png" in problem.what
        and problem.boxes == 1
    )
    (tmp_path / "all.json").write_text(json.dumps({**data, "images": images, "annotations": boxes}))
    assert read_found(tmp_path, "coco") == ({"all": {0: [("cat", [1, 2, 4, 6])], 1: [("cat", [1, 2, 4, 6])]}}, []), (
        "b has them all"
    )
