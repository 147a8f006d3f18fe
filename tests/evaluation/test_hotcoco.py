"""hotcoco computes the same numbers as pycocotools: all twelve and per class, on random and degenerate data."""

import contextlib
import io
import json

import hotcoco
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances

from retina_plugin.data.catalog import register_card
from retina_plugin.data.discover import discover, write_card
from retina_plugin.evaluation.hotcoco import HotCocoEvaluator, coco_figures
from retina_plugin.evaluation.result_table import METRICS


def random_truth(rng, num_images=30, num_classes=4):
    """Return COCO annotations with crowds, tiny and large boxes, empty images and a class without any box."""
    images = [{"id": 7 * i + 3, "width": 640, "height": 480, "file_name": f"{i}.jpg"} for i in range(num_images)]
    categories = [{"id": 10 * k + 1, "name": f"class{k}"} for k in range(num_classes)]
    annotations = []
    for image in images[:-3]:
        for _ in range(rng.integers(0, 12)):
            w, h = np.exp(rng.uniform(1.5, 6, 2))
            box = [*(rng.uniform(0, 300, 2)), w, h]
            category = categories[rng.integers(0, num_classes - 1)]["id"]
            annotation = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category}
            annotation |= {"bbox": [float(x) for x in box], "area": float(w * h), "iscrowd": int(rng.random() < 0.1)}
            annotations.append(annotation)
    return {"images": images, "categories": categories, "annotations": annotations}


def random_detections(rng, truth, per_image=15):
    """Return detections, about half of them near a box of their image, with ties among the scores."""
    rows = []
    for image in truth["images"]:
        boxes = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        for _ in range(per_image):
            if boxes and rng.random() < 0.5:
                near = boxes[rng.integers(len(boxes))]
                box, category = np.array(near["bbox"]) * rng.uniform(0.8, 1.2, 4), near["category_id"]
            else:
                box = np.r_[rng.uniform(0, 400, 2), np.exp(rng.uniform(2, 5, 2))]
                category = truth["categories"][rng.integers(4)]["id"]
            rows.append([image["id"], *box, round(rng.random(), 2), category])
    return np.array(rows)


def figures(coco, coco_eval_class, truth, rows):
    coco_eval = coco_eval_class(coco, coco.loadRes(rows.copy()), "bbox")
    coco_eval.evaluate()
    coco_eval.accumulate()
    coco_eval.summarize()
    figures = coco_figures(coco_eval, [c["name"] for c in truth["categories"]])
    want = [100 * v if v >= 0 else np.nan for v in coco_eval.stats]
    assert [figures[name] for name in METRICS] == pytest.approx(want, abs=1e-9, nan_ok=True)
    return figures


@pytest.mark.parametrize("seed", range(5))
def test_all_metrics_equal_those_of_pycocotools(tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth = random_truth(rng)
    rows = random_detections(rng, truth, per_image=(15, 150)[seed % 2])
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        want = figures(COCO(tmp_path / "truth.json"), COCOeval, truth, rows)
        ground_truth = hotcoco.COCO(str(tmp_path / "truth.json"))
        got = figures(ground_truth, hotcoco.COCOeval, truth, rows)
    assert len(got) == 12 + 4 and np.isnan(got["AP-class3"]), "the class without boxes has no AP"
    assert got == pytest.approx(want, abs=1e-9, nan_ok=True)
    assert 0.1 < got["AP"] < 99


def test_part_of_a_file_is_evaluated_alone(digits_root, tmp_path):
    """Boxes of the other part, in the same JSON, do not count as missed."""
    card = discover(digits_root / "instances_train.json", name="digits_in_parts")
    assert "part" in card.splits["val"]
    card = register_card(write_card(card, tmp_path)[0])
    records = DatasetCatalog.get(f"{card.name}_val")
    evaluator = HotCocoEvaluator(f"{card.name}_val", output_dir=str(tmp_path))
    for record in records:
        found = Instances((record["height"], record["width"]))
        found.pred_boxes = Boxes(torch.tensor([x["bbox"] for x in record["annotations"]]))
        found.pred_classes = torch.tensor([x["category_id"] for x in record["annotations"]])
        found.scores = torch.ones(len(found))
        evaluator.process([record], [{"instances": found}])
    assert 0 < len(records) < 8 and evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
