"""Clean copies; the mending itself is tested with every kind of broken data in test_check.py."""

import json

import pytest
from detectron2.data import DatasetCatalog

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.find import find_card
from retina_plugin.data.mend import to_coco, write_coco


def test_a_copy_reads_like_the_original_and_overwrites_nothing(small_digits, tmp_path):
    card = find_card("digits")
    records = {split: DatasetCatalog.get(f"digits_{split}") for split in card.splits}
    copy = DatasetCard.from_file(write_coco(card, records, tmp_path / "copy", name="digits_copy"))
    for split, found in records.items():
        again = copy.load(split)
        assert [r["annotations"] for r in again] == [r["annotations"] for r in found]
        assert [(r["height"], r["width"]) for r in again] == [(r["height"], r["width"]) for r in found]
    with pytest.raises(FileExistsError, match="instances_train.json"):
        write_coco(card, records, tmp_path / "copy", name="digits_copy")


def test_cocos_json_by_hand(tmp_path):
    annotation = {"bbox": [1, 2, 4.006, 10], "category_id": 1, "iscrowd": 1}
    data = to_coco([{"file_name": str(tmp_path / "x/a.png"), "height": 20, "width": 30, "annotations": [annotation]}], ["cat", "dog"], relative_to=tmp_path)
    assert data["images"] == [{"id": 1, "file_name": "x/a.png", "width": 30, "height": 20}]
    assert data["annotations"] == [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1.0, 2.0, 3.01, 8.0], "area": 24.08, "iscrowd": 1, "segmentation": []}]
    assert json.dumps(data) and data["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
