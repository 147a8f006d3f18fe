"""Detections from the folder of a run, a list with the annotations' ids, and the file of retina predict."""

import json

import cv2
import numpy as np
import pytest
import yaml

from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin.analysis.detections import dataset_of, read_detections
from retina_plugin.data.digits import generate_digits
from retina_plugin.evaluation.ground_truth import GroundTruth


@pytest.fixture()
def run(tmp_path):
    """A registered dataset of three images, and the folder of an evaluation."""
    records = []
    for i in range(3):
        file = tmp_path / "photos" / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), np.zeros((40, 50, 3), np.uint8))
        box = {"bbox": [5, 5, 20, 20], "bbox_mode": 0, "category_id": i % 2, "iscrowd": 0}
        records.append({"file_name": str(file), "image_id": f"id{i}", "height": 40, "width": 50, "annotations": [box]})
    name = f"detections {tmp_path}"
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(thing_classes=["cat", "dog"], thing_dataset_id_to_contiguous_id={7: 0, 9: 1})
    folder = tmp_path / "run"
    folder.mkdir()
    cfg = {"DATASETS": {"TEST": [name]}, "TEST": {"DETECTIONS_PER_IMAGE": 50}}
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg))
    found = [{"image_id": "id1", "category_id": 9, "bbox": [5, 5, 15, 15], "score": 0.8}]
    (folder / "coco_instances_results.json").write_text(json.dumps(found))
    yield folder
    DatasetCatalog.remove(name)


def test_a_folder_names_its_dataset(run):
    found = read_detections(run)
    assert found.rows.tolist() == [[2, 5, 5, 15, 15, 0.8, 1]] and found.most == 50
    assert found.class_names == ["cat", "dog"] and len(found.coco["images"]) == 3
    assert len(found.above(0.9).rows) == 0 and len(found.rows) == 1


def test_the_file_of_predict_is_matched_by_path_and_judged_on_its_images_only(run, tmp_path):
    content = {
        "images": [{"id": 5, "file_name": "photos/2.png"}, {"id": 6, "file_name": "elsewhere/0.png"}],
        "annotations": [{"image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
                        {"image_id": 6, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.4}],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "horse"}],
    }  # fmt: skip
    (tmp_path / "predictions.json").write_text(json.dumps(content))
    found = read_detections(tmp_path / "predictions.json", read_detections(run).dataset)
    assert found.rows.tolist() == [[3, 1, 2, 3, 4, 0.5, 1]]  # horses are no class of the dataset
    assert [x["id"] for x in found.coco["images"]] == [1, 3]


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "is not JSON"),
        ('[{"image_id": "other", "category_id": 7, "bbox": [1, 2, 3, 4], "score": 1}]', "detection 0 does not belong"),
        ('[{"image_id": "id1", "category_id": 7, "bbox": [1, 2, 3], "score": 1}]', "detection 0 does not belong"),
        ("[3]", "detection 0 does not belong"),
        ("3", "is neither a list"),
        ('{"images": [], "annotations": [], "categories": []}', "none of its images"),
    ],
)
def test_wrong_files_are_refused(run, content, message):
    (run / "coco_instances_results.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_detections(run)


def test_what_is_missing_is_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_detections(tmp_path / "gone.json")
    with pytest.raises(FileNotFoundError, match="`retina evaluate` writes one"):
        read_detections(tmp_path)
    (run / "config.yaml").unlink()
    with pytest.raises(ValueError, match="give --data"):
        read_detections(run)


def test_a_folder_of_the_same_name_elsewhere_is_a_different_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = []
    for place, count in (("a", 3), ("b", 5)):
        generate_digits(tmp_path / place / "numbers", splits={"train": 2, "val": count})
        counts.append(len(GroundTruth.of(dataset_of(f"{place}/numbers")).coco["images"]))
    assert counts == [3, 5]
