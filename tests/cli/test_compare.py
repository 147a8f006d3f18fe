"""retina compare as people call it."""

import json

import pytest
from planted import planted

from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    """A registered dataset of planted images, and detections with and without errors."""
    monkeypatch.chdir(tmp_path)
    for name, kinds in (("bad", {"Miss": 9}), ("good", {})):
        detections = planted(kinds, right=30 if kinds else 39)
        found = [
            {"image_id": int(number), "category_id": int(label), "bbox": box, "score": score}
            for number, *box, score, label in detections.rows.tolist()
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    by_image = {x["image_id"]: x for x in detections.coco["annotations"]}
    records = [
        {"file_name": str(tmp_path / x["file_name"]), "image_id": x["id"], "height": 200, "width": 200,
         "annotations": [{"bbox": by_image[x["id"]]["bbox"], "bbox_mode": 1, "iscrowd": 0,
                          "category_id": by_image[x["id"]]["category_id"] - 1}]}
        for x in detections.coco["images"]
    ]  # fmt: skip
    import cv2
    import numpy as np

    for record in records:
        cv2.imwrite(record["file_name"], np.zeros((200, 200, 3), np.uint8))
    name = f"compared {tmp_path.name}"
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(
        thing_classes=["cat", "dog", "emu"], thing_dataset_id_to_contiguous_id={0: 0, 1: 1, 2: 2}
    )
    yield name
    DatasetCatalog.remove(name)


def test_it_says_which_is_better_and_where(folder, tmp_path, capsys):
    assert main(["compare", "bad.json", "good.json", "--data", folder, "--output", "c", "--samples", "200"]) == 0
    assert "so good.json is better on images of this kind" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "c/compare.json").read_text())
    assert numbers["metrics"][0]["name"] == "AP" and numbers["metrics"][0]["low"] > 0
    assert len(numbers["images"]) == 9
    assert "Most improved: bad.json left, good.json right" in (tmp_path / "c/compare.html").read_text()


def test_too_few_samples_are_refused(folder, capsys):
    assert main(["compare", "bad.json", "good.json", "--data", folder, "--samples", "5"]) == 2
    assert "at least 100" in capsys.readouterr().err
