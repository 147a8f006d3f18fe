"""The account of a dataset adds up."""

import json

import pytest
from PIL import Image

from retina_plugin.data.account import account_of
from retina_plugin.data.discover import discover
from retina_plugin.data.load import load_split
from retina_plugin.data.problems import Kind


@pytest.fixture()
def pets(tmp_path):
    for i in range(6):
        Image.new("RGB", (64, 48), (i, 9, 9)).save(tmp_path / f"{i}.png")
    (tmp_path / "5.png").write_bytes(b"no image")
    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in (0, 1, 2, 3, 5, 9)]
    boxes = [
        (0, [4, 4, 20, 20]),
        (1, [4, 4, 0, 20]),
        (1, [4, 4, 90, 20]),
        (3, [1, 1, 5, 5]),
        (5, [1, 1, 5, 5]),
        (9, [1, 1, 5, 5]),
        (77, [1, 1, 5, 5]),
    ]
    annotations = [{"id": i, "image_id": image, "category_id": 1, "bbox": box} for i, (image, box) in enumerate(boxes)]
    (tmp_path / "a.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]})
    )
    (tmp_path / "other.xml").write_text("<something/>")
    return tmp_path


def test_every_image_file_and_box_is_accounted_for(pets):
    card = discover(pets)
    account = account_of(card, {split: load_split(card, split) for split in card.splits})
    assert (account.images, account.used, account.empty, account.unnamed) == (6, 4, 1, ["4.png"])
    assert account.lost == {Kind.IMAGE: 1, Kind.MISSING: 1}
    assert account.images == account.used + 1 + len(account.unnamed), "one of the lost images does not exist"
    assert (account.boxes, account.kept, account.changed) == (7, 3, 1)
    assert account.left_out == {Kind.ANNOTATION: 1, Kind.IMAGE: 1, Kind.MISSING: 1, Kind.LOST: 1}
    assert (account.files, set(account.unused)) == (1, {"other.xml"})
    images, files, boxes, classes, splits = account.text().splitlines()
    assert images.startswith("6 images in the folder: 4 used (1 without a box)")
    assert images.endswith("1 not named by any annotation (4.png)")
    assert files == "2 annotation files: 1 used, 1 not: other.xml is not one of the annotations"
    assert boxes.startswith("7 boxes: 3 used (1 clipped), 4 left out: ")
    assert classes == "1 classes: cat 3" and splits.startswith("splits: train 3 images")


def test_files_that_the_card_leaves_out_as_a_group_are_not_listed_one_by_one(pets):
    card = discover(pets)
    for i in range(4):
        (pets / f"{i}.xml").write_text("<something/>")
    results = {split: load_split(card, split) for split in card.splits}
    assert len(account_of(card, results).unused) == 5
    card.left_out["0.xml and 4 more"] = "are VOC XML"
    assert account_of(card, results).unused == {"0.xml and 4 more": "are VOC XML"}
