"""Cards in Detectron2's catalogs, and datasets that other code registered."""

import logging

import pytest
from PIL import Image

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from retina_plugin.data import catalog
from retina_plugin.data.catalog import load_datasets, register_cards, result_of
from retina_plugin.data.problems import Kind

NAMES = iter(f"others{i}" for i in range(1000))


def register(records):
    name = next(NAMES)
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(thing_classes=["cat"])
    return name


def test_third_party_records_get_sizes_and_ids(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    box = {"bbox": [1, 1, 9, 9], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    files = [
        {"file_name": str(tmp_path / "a.png"), "annotations": [box]},
        {"file_name": str(tmp_path / "gone.png"), "annotations": [box]},
    ]
    result = result_of(register(files))
    assert [(r["height"], r["width"], r["image_id"]) for r in result.records] == [(48, 64, str(tmp_path / "a.png"))]
    assert [p.kind for p in result.problems] == [Kind.IMAGE] and result.boxes == 2
    scaled = result_of(register([{**files[0], "height": 96, "width": 128}])).records[0]["annotations"][0]
    assert scaled["bbox"] == [0.5, 0.5, 5.0, 5.0] and scaled["bbox_mode"] == BoxMode.XYXY_ABS


def test_a_dataset_of_crowds_only_has_nothing_to_train_on(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    crowd = {"bbox": [1, 1, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 1}
    name = register([{"file_name": str(tmp_path / "a.png"), "annotations": [crowd]}])
    with pytest.raises(ValueError, match=f"nothing to train on in {name}"):
        load_datasets([name], filter_empty=False, on_problem="drop")
    with pytest.raises(ValueError, match="no file_name"):
        result_of(register([{"image_id": 1}]))


def test_a_wrong_card_is_logged_and_skipped(tmp_path, monkeypatch, caplog):
    (tmp_path / "a.yaml").write_text("a: &a [*a]")
    (tmp_path / "b.yaml").mkdir()
    monkeypatch.setattr(catalog, "card_folders", lambda: [tmp_path, tmp_path / "a.yaml"])
    with caplog.at_level(logging.ERROR):
        register_cards()
    assert "a.yaml" in caplog.text and "b.yaml" in caplog.text
