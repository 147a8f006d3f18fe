"""Exported datasets read like the original, box by box, in every format that can be written."""

import os

import pytest
from support import SAMPLE

from detectron2.data import DatasetCatalog

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.discover import discover, find_card
from retina_plugin.data.export import writable, write_dataset
from retina_plugin.data.formats.coco import to_coco


def content(records):
    """Return size, classes and boxes of each image file, rounded to a tenth of a pixel."""
    found = {}
    for r in records:
        annotations = [x for x in r["annotations"] if not x["iscrowd"]]
        boxes = sorted((x["category_id"], *(round(v, 1) + 0.0 for v in x["bbox"])) for x in annotations)
        found[os.path.realpath(r["file_name"])] = (r["height"], r["width"], boxes)
    return found


def assert_close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for file, (h, w, boxes) in ours.items():
        assert theirs[file][:2] == (h, w)
        for a, b in zip(boxes, theirs[file][2], strict=True):
            assert a[0] == b[0] and a[1:] == pytest.approx(b[1:], abs=0.11), file


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "csv", "labelme"])
def test_a_copy_reads_like_the_original_and_is_never_overwritten(kind, small_digits, tmp_path):
    assert kind in writable()
    card = find_card("digits")
    records = {split: DatasetCatalog.get(f"digits_{split}") for split in card.splits}
    copy = DatasetCard.from_file(write_dataset(card, records, tmp_path / "copy", name="digits_copy", format=kind))
    for split, found in records.items():
        assert_close(content(copy.load(split)), content(found))
    with pytest.raises(FileExistsError, match="already contains"):
        write_dataset(card, records, tmp_path / "copy", name="digits_copy", format=kind)
    with pytest.raises(ValueError, match="format 'cvat' cannot be written"):
        write_dataset(card, records, tmp_path / "other", name="x", format="cvat")


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "csv", "labelme"])
def test_copies_of_real_data_read_like_the_original(kind, tmp_path):
    card = discover(SAMPLE, format="coco")
    records = {split: card.load(split) for split in card.splits}
    copy = DatasetCard.from_file(write_dataset(card, records, tmp_path / "copy", name="copy", format=kind))
    for split, found in records.items():
        assert_close(content(copy.load(split)), content(found))


def test_a_coco_json_by_hand(tmp_path):
    annotation = {"bbox": [1, 2, 4.006, 10], "category_id": 1, "iscrowd": 1}
    data = to_coco(
        [{"file_name": str(tmp_path / "x/a.png"), "height": 20, "width": 30, "annotations": [annotation]}],
        ["cat", "dog"],
        relative_to=tmp_path,
    )
    assert data["images"] == [{"id": 1, "file_name": "x/a.png", "width": 30, "height": 20}]
    assert data["annotations"] == [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 2,
            "bbox": [1.0, 2.0, 3.01, 8.0],
            "area": 24.08,
            "iscrowd": 1,
            "segmentation": [],
        }
    ]
    assert data["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
