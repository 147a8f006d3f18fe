"""Evaluation scores the records that training would see."""

import json

import pytest
import torch
from PIL import Image

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from retina_plugin.data.catalog import register_card, result_of
from retina_plugin.evaluation import EVALUATOR_REGISTRY
from retina_plugin.evaluation.ground_truth import GroundTruth

NAMES = iter(f"scored{i}" for i in range(1000))


@pytest.fixture()
def card(tmp_path):
    """Register a split with every fault that training leaves out, and ids other than 1, 2, 3; return its name."""
    for i in range(5):
        Image.new("RGB", (64, 48), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"cut")
    images = [{"id": f"p{i}", "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(6)]
    images[4] |= {"width": 128, "height": 96}
    boxes = [
        ("p0", 20, [4, 4, 20, 20]),
        ("p0", 20, [4, 4, 0, 20]),
        ("p1", 7, [50, 4, 40, 20]),
        ("p3", 7, [1, 1, 5, 5]),
        ("p4", 7, [20, 20, 40, 40]),
        ("p5", 7, [1, 1, 5, 5]),
        ("p1", 99, [1, 1, 5, 5]),
    ]
    data = {
        "images": images,
        "categories": [{"id": 20, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [{"id": 1, "image_id": i, "category_id": c, "bbox": b} for i, c, b in boxes],
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    name = next(NAMES)
    card = {"name": name, "format": "coco", "classes": ["cat", "dog"], "root": ".", "licence": "", "source": ""}
    card["splits"] = {"val": {"images": ".", "annotations": "a.json"}}
    (tmp_path / f"{name}.yaml").write_text(json.dumps(card))
    register_card(tmp_path / f"{name}.yaml")
    return f"{name}_val"


@pytest.mark.parametrize("which", ["hotcoco", "detectron2"])
def test_kept_boxes_score_100_and_are_written_with_the_annotations_ids(card, which, tmp_path):
    evaluator = EVALUATOR_REGISTRY.get(which)(card, output_dir=str(tmp_path / "out"), detections_per_image=100)
    evaluator.reset()
    records = result_of(card).records
    assert len(records) == 4 and records == DatasetCatalog.get(card)
    for record in records:
        found = Instances((record["height"], record["width"]))
        found.pred_boxes = Boxes(torch.tensor([x["bbox"] for x in record["annotations"]]).reshape(-1, 4))
        found.pred_classes = torch.tensor([x["category_id"] for x in record["annotations"]], dtype=torch.int64)
        found.scores = torch.ones(len(found))
        evaluator.process([record], [{"instances": found}])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
    written = json.loads((tmp_path / "out/coco_instances_results.json").read_text())
    assert {(x["image_id"], x["category_id"]) for x in written} == {("p0", 20), ("p1", 7), ("p4", 7)}


@pytest.mark.parametrize("which", ["hotcoco", "detectron2"])
def test_images_with_more_than_100_objects_count_all_kept_detections(which, tmp_path, caplog):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    boxes = [[4 * (i % 50), 9 * (i // 50), 4 * (i % 50) + 3, 9 * (i // 50) + 8] for i in range(150)]
    annotations = [{"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 0} for box in boxes]
    name = next(NAMES)
    record = {"file_name": str(tmp_path / "a.png"), "image_id": 5, "height": 480, "width": 640}
    DatasetCatalog.register(name, lambda: [{**record, "annotations": annotations}])
    MetadataCatalog.get(name).set(thing_classes=["x"])
    aps = {}
    for most in (100, 300):
        evaluator = EVALUATOR_REGISTRY.get(which)(name, output_dir=str(tmp_path), detections_per_image=most)
        evaluator.reset()
        found = Instances(
            (480, 640),
            pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32)),
            scores=torch.linspace(1, 0.5, 150),
            pred_classes=torch.zeros(150, dtype=torch.int64),
        )
        evaluator.process([{"image_id": 5}], [{"instances": found}])
        aps[most] = evaluator.evaluate()["bbox"]["AP"]
    assert aps[300] == pytest.approx(100) and aps[100] < 70 and "more than 100 objects" in caplog.text


@pytest.mark.parametrize("which", ["hotcoco", "detectron2"])
def test_without_annotations_detections_are_only_written(which, tmp_path, caplog):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    name = next(NAMES)
    DatasetCatalog.register(name, lambda: [{"file_name": str(tmp_path / "a.png")}])
    MetadataCatalog.get(name).set(thing_classes=["x"])
    evaluator = EVALUATOR_REGISTRY.get(which)(name, output_dir=str(tmp_path))
    evaluator.reset()
    found = Instances(
        (48, 64),
        pred_boxes=Boxes(torch.tensor([[1.0, 1, 9, 9]])),
        scores=torch.ones(1),
        pred_classes=torch.zeros(1, dtype=torch.int64),
    )
    evaluator.process(result_of(name).records, [{"instances": found}])
    assert evaluator.evaluate() == {} and "has no annotations" in caplog.text
    assert json.loads((tmp_path / "coco_instances_results.json").read_text())[0]["image_id"] == str(tmp_path / "a.png")


def test_label_outside_the_classes_is_refused(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    name = next(NAMES)
    box = {"bbox": [1, 1, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 3}
    DatasetCatalog.register(name, lambda: [{"file_name": str(tmp_path / "a.png"), "annotations": [box]}])
    MetadataCatalog.get(name).set(thing_classes=["x"])
    with pytest.raises(ValueError, match=f"dataset {name} has the label 3, but 1 classes"):
        GroundTruth.of(name)
