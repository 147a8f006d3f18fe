"""What every format can rely on: sane images and boxes, and sums that add up."""

import json

import pytest
from conftest import read_source
from PIL import Image

from retina_plugin.data.formats.base import FORMAT_REGISTRY, AnnotationFormat, same_shape, with_unique_stems
from retina_plugin.data.problems import Kind


def coco(tmp_path, boxes, size=(64, 48), said=(64, 48), **source):
    Image.new("RGB", size).save(tmp_path / "a.png")
    annotations = [{"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)]
    image = {"id": 1, "file_name": "a.png", "width": said[0], "height": said[1]}
    (tmp_path / "a.json").write_text(
        json.dumps({"images": [image], "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]})
    )
    return read_source("coco", tmp_path, {"images": ".", "annotations": "a.json", **source}, ["cat"], look=True)


def test_formats_are_classes_with_a_name():
    kinds = dict(FORMAT_REGISTRY)
    assert list(kinds)[:3] == ["coco", "voc", "yolo"]
    assert all(issubclass(kind, AnnotationFormat) and kind.name == name and kind.title for name, kind in kinds.items())


def test_boxes_follow_an_image_of_another_size_and_the_same_shape(tmp_path):
    result = coco(tmp_path, [[4, 4, 20, 20]], size=(128, 96))
    assert result.records[0]["annotations"][0]["bbox"] == [8, 8, 48, 48] and (
        result.records[0]["height"],
        result.records[0]["width"],
    ) == (96, 128)
    assert [p.kind for p in result.problems] == [Kind.SCALED]


def test_an_image_of_another_shape_is_left_out_with_its_boxes(tmp_path):
    result = coco(tmp_path, [[4, 4, 20, 20], [1, 1, 5, 5]], size=(48, 64))
    assert result.records == [] and [(p.kind, p.boxes, p.images) for p in result.problems] == [(Kind.SIZE, 2, 1)]
    assert "turned, they would agree" in str(result.problems[0])


@pytest.mark.parametrize(
    "boxes", [[[4, 4, 20, 20], [4, 4, 0, 20]], [[70, 4, 5, 5]], [["x", 1, 2, 3], None, [1, 2, 3, 10**400]], []]
)
def test_boxes_used_and_left_out_add_up(tmp_path, boxes):
    result = coco(tmp_path, boxes)
    assert result.boxes == len(boxes) == result.boxes_used + sum(p.boxes for p in result.problems)


def test_fractions_are_read_only_where_the_card_says_so(tmp_path):
    with pytest.raises(ValueError, match="units: fractions"):
        coco(tmp_path, [[0.25, 0.25, 0.5, 0.5]])
    assert coco(tmp_path, [[0.25, 0.25, 0.5, 0.5]], units="fractions").records[0]["annotations"][0]["bbox"] == [
        16,
        12,
        48,
        36,
    ]
    assert coco(tmp_path, [[0, 0, 1, 1]]).boxes_used == 1, "a box of one pixel in the corner is one"


def test_missing_keys_files_and_outside(tmp_path):
    with pytest.raises(ValueError, match="no 'annotations'"):
        coco(tmp_path, [], annotations=None)
    with pytest.raises(FileNotFoundError, match="gone.json does not exist"):
        coco(tmp_path, [], annotations="gone.json")
    with pytest.raises(ValueError, match="must be a path"):
        coco(tmp_path, [], annotations=["a.json"])


def test_same_shape_allows_a_pixel_of_rounding():
    assert same_shape((427, 640), (213, 320)) is not None and same_shape((427, 640), (214, 320)) is not None
    assert same_shape((427, 640), (230, 320)) is None


def test_names_of_written_files_differ():
    records = [{"file_name": f"/d/{folder}/a.{end}"} for folder in ("x", "y") for end in ("png", "jpg")]
    assert len({name.casefold() for name in with_unique_stems(records).values()}) == 4
