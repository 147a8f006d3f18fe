"""Detections as rows, and the file that Detectron2 writes of them."""

import json

import numpy as np
import torch

from detectron2.structures import Boxes, Instances

from retina_plugin.evaluation.ground_truth import GroundTruth
from retina_plugin.evaluation.rows import numbered_from_one, rows_of, write_predictions


def test_detections_of_an_image_become_rows_with_widths_and_heights():
    boxes, scores = Boxes(torch.tensor([[1.0, 2, 11, 22]])), torch.tensor([0.5], dtype=torch.bfloat16)
    found = Instances((50, 50), pred_boxes=boxes, scores=scores, pred_classes=torch.tensor([3]))
    rows = rows_of(7, found)
    assert rows.dtype == np.float32 and rows.tolist() == [[7, 1, 2, 10, 20, 0.5, 3]]
    assert numbered_from_one(rows).tolist() == [[7, 1, 2, 10, 20, 0.5, 4]] and rows[0, 6] == 3


def test_predictions_are_written_in_parts_with_any_ids(tmp_path, monkeypatch):
    monkeypatch.setattr("retina_plugin.evaluation.rows.WRITTEN_AT_ONCE", 3)
    truth = GroundTruth(
        coco={},
        numbers={},
        original_ids={1: "a/ü.jpg", 2: 10**40},
        original_categories=[7, 5],
        labelled=True,
        class_names=["x", "y"],
    )
    rows = np.array([[1 + i % 2, 1.5, 2.25, i, 4, 0.125 * i, i // 4] for i in range(8)], dtype=np.float32)
    write_predictions(rows, truth, tmp_path / "x.json")
    ids = [(truth.original_ids[1 + i % 2], [7, 5][i // 4]) for i in range(8)]
    want = [
        {"image_id": image, "category_id": category, "bbox": [1.5, 2.25, float(i), 4.0], "score": 0.125 * i}
        for i, (image, category) in enumerate(ids)
    ]
    assert json.loads((tmp_path / "x.json").read_text()) == want
    write_predictions(rows[:0], truth, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == []
