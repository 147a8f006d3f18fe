"""Clean copies; test_check.py fixes every kind of broken data."""

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.check import CheckReport, Finding
from retina_plugin.data.fix import fixed, remains
from retina_plugin.data.load import LoadResult
from retina_plugin.data.problems import Kind, Problem


def report(kind):
    card = DatasetCard("p", "coco", ["cat"], {"train": {}, "val": {}}, ".", "", "")
    record = {
        "file_name": "a.png",
        "image_id": 1,
        "height": 9,
        "width": 9,
        "annotations": [{"bbox": [0, 0, 5, 5], "category_id": 0, "iscrowd": 0}] * 2,
    }
    results = {split: LoadResult(split, [record], boxes=2, images=1) for split in ("train", "val")}
    return CheckReport(card, results, [Finding("val", Problem(kind, "a.png", "is odd"))])


def test_a_split_is_emptied_by_unreadable_images_but_not_by_duplicates():
    records, changes = fixed(report(Kind.SPLIT))
    assert len(records["val"]) == 1 and "kept, or nothing would be left" in "".join(changes)
    records, changes = fixed(report(Kind.IMAGE))
    assert records["val"] == [] and any("image left out" in change for change in changes)


def test_the_numbers_of_remaining_images_and_boxes_are_reported():
    one = report(Kind.IMAGE)
    records, changes = fixed(one)
    assert remains(one, records).splitlines() == [
        "train: 1 of 1 images and 1 of 2 boxes remain",
        "val: 0 of 1 images and 0 of 2 boxes remain",
    ]
    assert sum("twice" in change for change in changes) == 1
