"""What every format can rely on: checked images and boxes, and counts that add up."""

import json

import pytest
from PIL import Image
from support import read_source

from retina_plugin.data.formats.reading import Reading
from retina_plugin.data.problems import Kind


def coco(tmp_path, boxes, size=(64, 48), said=(64, 48), **source):
    """Read boxes (COCO's x, y, width, height) of one image from a COCO JSON; sizes are (width, height)."""
    Image.new("RGB", size).save(tmp_path / "a.png")
    annotations = [{"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)]
    image = {"id": 1, "file_name": "a.png", "width": said[0], "height": said[1]}
    data = {"images": [image], "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(data), encoding="utf-8")
    return read_source("coco", tmp_path, {"images": ".", "annotations": "a.json", **source}, ["cat"], look=True)


def test_boxes_are_scaled_with_an_image_of_the_same_shape(tmp_path):
    result = coco(tmp_path, [[4, 4, 20, 20]], size=(128, 96))
    (record,) = result.records
    assert record["annotations"][0]["bbox"] == [8, 8, 48, 48]
    assert (record["height"], record["width"]) == (96, 128)
    assert [p.kind for p in result.problems] == [Kind.SCALED]


def test_an_image_of_another_shape_is_left_out_with_its_boxes(tmp_path):
    result = coco(tmp_path, [[4, 4, 20, 20], [1, 1, 5, 5]], size=(48, 64))
    assert result.records == []
    assert [(p.kind, p.boxes, p.images) for p in result.problems] == [(Kind.SIZE, 2, 1)]
    assert "with width and height swapped, they would agree" in str(result.problems[0])


@pytest.mark.parametrize(
    "boxes", [[[4, 4, 20, 20], [4, 4, 0, 20]], [[70, 4, 5, 5]], [["x", 1, 2, 3], None, [1, 2, 3, 10**400]], []]
)
def test_boxes_used_and_left_out_add_up(tmp_path, boxes):
    result = coco(tmp_path, boxes)
    assert result.boxes == len(boxes) == result.boxes_used + sum(p.boxes for p in result.problems)


def test_fractions_are_read_only_if_the_card_declares_them(tmp_path):
    fractions = [[0.25, 0.25, 0.5, 0.5]]
    with pytest.raises(ValueError, match="units: fractions"):
        coco(tmp_path, fractions)
    (record,) = coco(tmp_path, fractions, units="fractions").records
    assert record["annotations"][0]["bbox"] == [16, 12, 48, 36]
    assert coco(tmp_path, [[0, 0, 1, 1]]).boxes_used == 1, "a box of one pixel in the corner"


def test_wrong_paths_in_a_source_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no 'annotations'"):
        coco(tmp_path, [], annotations=None)
    with pytest.raises(FileNotFoundError, match="gone.json does not exist"):
        coco(tmp_path, [], annotations="gone.json")
    with pytest.raises(ValueError, match="must be a path"):
        coco(tmp_path, [], annotations=["a.json"])


def test_a_class_may_have_any_name_and_a_missing_name_is_reported_as_such(tmp_path):
    reading = Reading(tmp_path, ["cat"], {})
    assert reading.label_of("without a name", file="a.json") is None
    assert reading.label_of(None, file="a.json") is None
    reading.finish(lambda files, needed: [])
    assert [problem.what for problem in reading.problems] == [
        "class 'without a name' is not one of the card's classes: cat",
        "class has no name",
    ]
