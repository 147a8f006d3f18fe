"""Clean copies; fixing itself is tested with every kind of broken data in test_check.py."""

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


def test_a_split_is_never_emptied_by_a_belief_but_by_a_fact():
    records, changes = fixed(report(Kind.SPLIT))
    assert len(records["val"]) == 1 and "they stay, because nothing would be left" in "".join(changes)
    records, changes = fixed(report(Kind.IMAGE))
    assert records["val"] == [] and any("image left out" in change for change in changes)


def test_what_remains_is_said_of_how_many():
    one = report(Kind.IMAGE)
    records, changes = fixed(one)
    assert (
        remains(one, records)
        == "train: 1 of 1 images and 1 of 2 boxes remain\nval: 0 of 1 images and 0 of 2 boxes remain"
    )
    assert sum("twice" in change for change in changes) == 1
