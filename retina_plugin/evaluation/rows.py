"""Detections of a dataset as rows of numbers, and the file that Detectron2 writes of them."""

import json
from pathlib import Path

import msgspec
import numpy as np

from detectron2.structures import Instances

from retina_plugin.evaluation.ground_truth import GroundTruth

PREDICTIONS = "coco_instances_results.json"
"""File of the detections, named as Detectron2 names it."""

WRITTEN_AT_ONCE = 20_000
"""Detections encoded as JSON at a time, which bounds the memory."""


def rows_of(number: int, instances: Instances) -> np.ndarray:
    """Return the detections of an image as rows (D, 7) float32: image number, x, y, width, height, score, label.

    Args:
        number: of the image; float32 is exact up to 2^24.
        instances: with "pred_boxes", "scores" and "pred_classes".
    """
    found = instances.to("cpu")
    boxes, scores = found.pred_boxes.tensor.float().numpy(), found.scores.float().numpy()
    return rows_from(number, boxes, scores, found.pred_classes.numpy())


def rows_from(number: int, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the same of boxes (D, 4) XYXY, scores (D,) and labels (D,)."""
    rows = np.empty((len(boxes), 7), dtype=np.float32)
    rows[:, 0], rows[:, 5], rows[:, 6] = number, scores, labels
    rows[:, 1:3], rows[:, 3:5] = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    return rows


def numbered_from_one(rows: np.ndarray) -> np.ndarray:
    """Return rows (D, 7) of detections in float64, as hotcoco expects them, with the label replaced by the category.

    Args:
        rows: (D, 7), image number, x, y, width, height, score, label; the category is label + 1.
    """
    rows = rows.astype(np.float64)
    rows[:, 6] += 1
    return rows


def write_predictions(rows: np.ndarray, truth: GroundTruth, file: Path) -> None:
    """Write detections in Detectron2's format, with the ids of the annotations, in parts to bound the memory.

    Args:
        rows: (D, 7), image number, x, y, width, height, score, label.
        truth: holds the ids.
        file: the file to write, one JSON list.
    """
    with open(file, "wb") as stream:
        stream.write(b"[")
        for start in range(0, len(rows), WRITTEN_AT_ONCE):
            records = [
                {
                    "image_id": truth.original_ids[int(number)],
                    "category_id": truth.original_categories[int(label)],
                    "bbox": box,
                    "score": score,
                }
                for number, *box, score, label in rows[start : start + WRITTEN_AT_ONCE].tolist()
            ]
            try:
                text = msgspec.json.encode(records)
            except UnicodeEncodeError:  # an id that cannot be encoded as UTF-8
                text = json.dumps(records).encode()
            stream.write((b", " if start else b"") + text[1:-1])
        stream.write(b"]")
