"""PASCAL VOC's average precision at IoU 0.5: area under the curve (2010) and eleven points (2007)."""

import math
from collections.abc import Sequence

import numpy as np

from retina_plugin.evaluation.hotcoco import HotCocoEvaluator

MATCH = 0.5
"""IoU from which a detection matches a box."""

POINTS = np.linspace(0, 1, 11)
"""Recalls of the eleven-point average."""


class VocEvaluator(HotCocoEvaluator):
    """VOC's metrics, matched as its development kit does: "AP50" (area under the curve) and "AP50-11" (eleven points).

    Both are reported for each class and as the mean over classes, in percent. A detection is matched with the box
    that it overlaps most; of several detections of one box, the one with the highest score is true, the others are
    false. Crowds are treated as VOC's difficult objects: detections on them are neither true nor false. Widths and
    heights are those of continuous coordinates, without the pixel that the kit adds.

    Source: Everingham et al. 2010, *The PASCAL Visual Object Classes Challenge*, section 4.2; the kit's VOCevaldet.
    """

    @staticmethod
    def metric_names(class_names: Sequence[str]) -> list[str]:
        """Return the two means and the two metrics of each class."""
        return [
            f"{metric}{ending}"
            for ending in ("", *(f"-{name}" for name in class_names))
            for metric in ("AP50", "AP50-11")
        ]

    def score(self, rows: np.ndarray, coco: dict) -> dict[str, dict[str, float]]:
        """Score detections (D, 7), as :meth:`HotCocoEvaluator.score` does, with VOC's rules."""
        figures: dict[str, float] = {}
        for label, name in enumerate(self.truth.class_names):
            truth = [x for x in coco["annotations"] if x["category_id"] == label + 1]
            hits, count = matched(rows[rows[:, 6] == label], truth)
            area, eleven = average_precisions(hits, count)
            figures[f"AP50-{name}"], figures[f"AP50-11-{name}"] = 100 * area, 100 * eleven
        means = {}
        for metric in ("AP50", "AP50-11"):
            values = [figures[f"{metric}-{name}"] for name in self.truth.class_names]
            there = [value for value in values if not math.isnan(value)]
            means[metric] = float(np.mean(there)) if there else float("nan")
        return {"bbox": {**means, **figures}}


def matched(rows: np.ndarray, truth: list[dict]) -> tuple[np.ndarray, int]:
    """Match the detections of one class with its boxes.

    Args:
        rows: (D, 7), image number, x, y, width, height, score, label.
        truth: annotations of the class, with "image_id", "bbox" (x, y, width, height) and "iscrowd".

    Returns:
        For each detection whether it is true, (<= D,) bool in the order of descending scores, without those on
        difficult objects; and the number of objects that are not difficult.
    """
    by_image: dict[int, list[dict]] = {}
    for annotation in truth:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    found, hits = set(), []
    for row in rows[np.argsort(-rows[:, 5], kind="stable")]:
        boxes = by_image.get(int(row[0]), [])
        overlaps = _overlaps(row[1:5], np.array([x["bbox"] for x in boxes], dtype=np.float64).reshape(-1, 4))
        best = int(overlaps.argmax()) if len(boxes) else -1
        if best < 0 or overlaps[best] < MATCH:
            hits.append(False)
        elif not boxes[best]["iscrowd"]:
            hits.append(boxes[best]["id"] not in found)
            found.add(boxes[best]["id"])
    return np.array(hits, dtype=bool), sum(not x["iscrowd"] for x in truth)


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (M,) of a box (4,) with others (M, 4), all x, y, width, height."""
    box = box.astype(np.float64)
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    shared = (high - low).clip(min=0).prod(axis=1)
    return shared / np.maximum(box[2:].prod() + others[:, 2:].prod(axis=1) - shared, 1e-12)


def average_precisions(hits: np.ndarray, count: int) -> tuple[float, float]:
    """Return the area under the precision-recall curve of one class, and the mean precision at eleven recalls.

    Args:
        hits: (D,) bool, whether each detection is true, in the order of descending scores.
        count: objects of the class; without any, both results are NaN.

    Example:
        >>> average_precisions(np.array([True, False, True]), 2)   # precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1
        (0.8333333333333333, 0.8484848484848484)
    """
    if not count:
        return float("nan"), float("nan")
    right = np.cumsum(hits)
    recall, precision = right / count, right / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # the best precision at this recall or beyond
    area = float(np.sum(np.diff(recall, prepend=0.0) * best))
    points = [best[recall >= point - 1e-9].max(initial=0.0) for point in POINTS]
    return area, float(np.mean(points))
