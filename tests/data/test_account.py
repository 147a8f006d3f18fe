"""Sums that add up, on folders as people have them."""

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


def test_every_image_file_and_box_is_somewhere(pets):
    card = discover(pets)
    account = account_of(card, {split: load_split(card, split) for split in card.splits})
    assert (account.images, account.used, account.empty, account.unnamed) == (6, 4, 1, ["4.png"])
    assert account.lost == {Kind.IMAGE: 1, Kind.MISSING: 1} and account.images == account.used + 1 + len(
        account.unnamed
    ), "one is missing altogether"
    assert (account.boxes, account.kept, account.changed) == (7, 3, 1)
    assert account.left_out == {Kind.ANNOTATION: 1, Kind.IMAGE: 1, Kind.MISSING: 1, Kind.LOST: 1}
    assert (account.files, set(account.unused)) == (1, {"other.xml"})
    text = account.text()
    assert (
        len(text.splitlines()) == 5
        and "6 images in the folder: 4 used (1 without a box)" in text
        and "7 boxes: 3 used (1 clipped), 4 left out" in text
        and "2 annotation files: 1 used, 1 not: other.xml" in text
    )
