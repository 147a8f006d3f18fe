"""Evaluators: the ground truth scores 100, no detections score 0, VOC annotations work like COCO's."""

import json

import pytest
import torch
import yaml
from PIL import Image

from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances

from retina_plugin.data.catalog import register_card
from retina_plugin.evaluation import EVALUATOR_REGISTRY


@pytest.fixture(params=["hotcoco", "detectron2"])
def evaluate(request):
    """Return a function that evaluates a dataset, for each evaluator."""
    return lambda *args: run(EVALUATOR_REGISTRY.get(request.param), *args)


def run(evaluator_class, name, folder, detect):
    evaluator = evaluator_class(name, output_dir=str(folder))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        evaluator.process([record], [{"instances": detect(record)}])
    return evaluator.evaluate()["bbox"]


def truth(record):
    size = (record["height"], record["width"])
    boxes = torch.tensor([a["bbox"] for a in record["annotations"]], dtype=torch.float32).reshape(-1, 4)
    classes = torch.tensor([a["category_id"] for a in record["annotations"]], dtype=torch.int64)
    return Instances(size, pred_boxes=Boxes(boxes), scores=torch.ones(len(boxes)), pred_classes=classes)


def test_ground_truth_scores_100(evaluate, small_digits, tmp_path):
    assert evaluate("digits_val", tmp_path, truth)["AP"] == pytest.approx(100)


def test_no_detections_score_zero_with_a_warning(evaluate, small_digits, tmp_path, caplog):
    results = evaluate("digits_val", tmp_path, lambda record: truth(record)[torch.zeros(0, dtype=torch.int64)])
    assert results["AP"] == 0.0 and results["AP50"] == 0.0
    assert "no detections on digits_val" in caplog.text


@pytest.mark.parametrize("name", ["hotcoco", "detectron2"])
def test_image_of_a_different_dataset_is_refused(name, small_digits, tmp_path):
    evaluator = EVALUATOR_REGISTRY.get(name)("digits_val", output_dir=str(tmp_path))
    evaluator.reset()
    with pytest.raises(ValueError, match="dataset digits_val has no image 'elsewhere'"):
        evaluator.process([{"image_id": "elsewhere"}], [{"instances": Instances((9, 9))}])


def test_voc_annotations_are_scored(evaluate, tmp_path):
    name = f"voc_eval_{tmp_path.parent.name}_{tmp_path.name}".replace("-", "_")
    for folder in ("images", "xml"):
        (tmp_path / "v" / folder).mkdir(parents=True)
    Image.new("RGB", (90, 60)).save(tmp_path / "v/images/a.jpg")
    (tmp_path / "v/list.txt").write_text("a\n")
    (tmp_path / "v/xml/a.xml").write_text(
        "<annotation><filename>a.jpg</filename><size><width>90</width><height>60</height></size>"
        "<object><name>cat</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>40</xmax><ymax>50</ymax></bndbox></object></annotation>"
    )
    card = {"name": name, "format": "voc", "root": "v", "classes": ["cat"], "licence": "-", "source": "-",
            "splits": {"val": {"images": "images", "annotations": "xml", "image_set": "list.txt"}}}  # fmt: skip
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
    register_card(tmp_path / "card.yaml")
    assert evaluate(f"{name}_val", tmp_path, truth)["AP"] == pytest.approx(100)


def test_card_with_a_subset_of_the_categories_in_a_different_order(tmp_path):
    (tmp_path / "s/images").mkdir(parents=True)
    Image.new("RGB", (90, 60)).save(tmp_path / "s/images/a.jpg")
    names = {5: "dog", 2: "cat", 9: "cow"}
    box = {"image_id": 1, "bbox": [5, 5, 30, 40], "area": 1200, "iscrowd": 0}
    data = {
        "images": [{"id": 1, "width": 90, "height": 60, "file_name": "a.jpg"}],
        "categories": [{"id": i, "name": name} for i, name in names.items()],
        "annotations": [{**box, "id": n + 1, "category_id": i} for n, i in enumerate((2, 9))],
    }
    (tmp_path / "s/val.json").write_text(json.dumps(data))
    name = f"some_{tmp_path.parent.name}_{tmp_path.name}".replace("-", "_")
    card = {"name": name, "format": "coco", "root": "s", "classes": ["cow", "cat"], "licence": "-", "source": "-",
            "splits": {"val": {"images": "images", "annotations": "val.json"}}}  # fmt: skip
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card))
    register_card(tmp_path / "card.yaml")
    # The evaluator is built before anything has loaded the data.
    evaluator = EVALUATOR_REGISTRY.get("hotcoco")(f"{name}_val", output_dir=str(tmp_path))
    (record,) = DatasetCatalog.get(f"{name}_val")
    cow = truth(record)[[a["category_id"] == 0 for a in record["annotations"]]]
    evaluator.process([record], [{"instances": cow}])
    results = evaluator.evaluate()["bbox"]
    assert results["AP-cow"] == pytest.approx(100) and results["AP-cat"] == 0 and results["AP"] == pytest.approx(50)
    written = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert [x["category_id"] for x in written] == [9]
