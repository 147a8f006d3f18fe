"""The generated data of the start benchmark: both implementations read the same boxes from it."""

import json

import pytest

from retina_plugin.bench import dataset_start
from retina_plugin.bench.dataset_start import CORNERS, card_of, detectron2_reads, generated_coco, plugin_reads


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_start.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(dataset_start.tempfile, "mkdtemp", lambda: str(tmp_path / "unfinished"))
    (tmp_path / "unfinished").mkdir()
    return generated_coco(233, 1700, corners=CORNERS)


def test_both_implementations_read_the_same(folder):
    theirs = detectron2_reads(folder)
    for ours in (plugin_reads(folder, look=False), plugin_reads(folder, look=True)):
        assert len(ours) == len(theirs) == 233 and sum(len(record["annotations"]) for record in ours) == 1700
        for a, b in zip(ours, theirs, strict=True):
            assert a["file_name"] == b["file_name"] and (a["height"], a["width"]) == (b["height"], b["width"])
            for x, y in zip(a["annotations"], b["annotations"], strict=True):
                x1, y1, w, h = y["bbox"]
                assert x["bbox"] == pytest.approx([x1, y1, x1 + w, y1 + h], abs=1e-6)
                assert x["category_id"] == y["category_id"]


def test_generated_data_has_no_problems(folder):
    assert dataset_start.load.load_split(card_of(folder), "train").problems == []


def test_some_images_have_no_object_and_polygons_are_inside_their_boxes(folder):
    data = json.loads((folder / "instances.json").read_text())
    with_objects = {x["image_id"] for x in data["annotations"]}
    assert 1 <= 233 - len(with_objects) < 20
    for x in data["annotations"][:200]:
        (polygon,), (left, top, w, h) = x["segmentation"], x["bbox"]
        xs, ys = polygon[::2], polygon[1::2]
        assert len(xs) == len(ys) == CORNERS
        assert left - 0.02 <= min(xs) and max(xs) <= left + w + 0.02
        assert top - 0.02 <= min(ys) and max(ys) <= top + h + 0.02
