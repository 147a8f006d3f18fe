"""Score thresholds with the best F1 on a dataset."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import hotcoco
import numpy as np

from retina_plugin.evaluation.rows import numbered_from_one

MATCH = 0.5
"""IoU from which a detection is right."""


class Threshold(NamedTuple):
    """The score from which detections are kept for the best F1, and what it gives.

    Args:
        score: minimum score, inclusive, 0..1; NaN if no detection is right.
        f1: harmonic mean of precision and recall, 0..1.
        precision: fraction of the kept detections that are right.
        recall: fraction of the objects that are found.
    """

    score: float
    f1: float
    precision: float
    recall: float


def best_threshold(scores: np.ndarray, right: np.ndarray, num_objects: int) -> Threshold:
    """Return the score threshold with the best F1; of several equal ones the highest.

    The threshold lies halfway between the lowest score that is kept and the next one below it.

    Args:
        scores: (D,) scores, in any order.
        right: (D,) bool, whether each detection matches an object that no better detection matches.
        num_objects: objects to be found.

    Example:
        >>> best_threshold(np.array([0.9, 0.6, 0.4, 0.2]), np.array([True, True, False, False]), 3)
        Threshold(score=0.5, f1=0.8, precision=1.0, recall=0.6666666666666666)
    """
    order = np.argsort(-scores, kind="stable")
    scores, hits = np.asarray(scores, dtype=np.float64)[order], np.cumsum(np.asarray(right, dtype=bool)[order])
    if not len(scores) or not hits[-1]:
        return Threshold(float("nan"), 0.0, 0.0, 0.0)
    kept = np.arange(1, len(scores) + 1)
    f1 = 2 * hits / (kept + num_objects)
    last_of_equals = np.append(scores[1:] < scores[:-1], True)  # equal scores are kept or dropped together
    best = int(np.where(last_of_equals, f1, -1.0).argmax())
    below = scores[best + 1] if best + 1 < len(scores) else 0.0
    recall = float(hits[best] / num_objects) if num_objects else 0.0
    return Threshold(float((scores[best] + below) / 2), float(f1[best]), float(hits[best] / kept[best]), recall)


def find_thresholds(
    rows: np.ndarray, coco: dict, class_names: Sequence[str], *, most: int
) -> tuple[Threshold, dict[str, Threshold]]:
    """Return the threshold with the best F1 for all classes together, and that of each class.

    Detections are matched as COCO's metrics do at IoU 0.5; those on crowds count neither as right nor as wrong.

    Args:
        rows: (D, 7), image number, x, y, width, height, score, label, as :class:`HotCocoEvaluator` collects them.
        coco: the annotations, images numbered from 1, categories label + 1.
        class_names: K names.
        most: detections per image that count.
    """
    labels, right = match(rows, coco, most=most)
    scores, counted = rows[:, 5].astype(np.float64), right >= 0
    objects = np.zeros(len(class_names), dtype=np.int64)
    for annotation in coco["annotations"]:
        objects[annotation["category_id"] - 1] += not annotation["iscrowd"]
    overall = best_threshold(scores[counted], right[counted] > 0, int(objects.sum()))
    by_class = {}
    for label, name in enumerate(class_names):
        mine = counted & (labels == label)
        by_class[name] = best_threshold(scores[mine], right[mine] > 0, int(objects[label]))
    return overall, by_class


def threshold_results(
    rows: np.ndarray, coco: dict, class_names: Sequence[str], *, most: int
) -> dict[str, dict[str, float]]:
    """Return :func:`find_thresholds` as part of the results of an evaluator.

    Returns:
        {"threshold": {"score": 0..1, "F1": percent, "precision": percent, "recall": percent, "score-<class>": 0..1}};
        a class without a right detection has the score of all; empty if no detection is right.
    """
    overall, by_class = find_thresholds(rows, coco, class_names, most=most)
    if math.isnan(overall.score):
        return {}
    figures = {
        "score": overall.score,
        "F1": 100 * overall.f1,
        "precision": 100 * overall.precision,
        "recall": 100 * overall.recall,
    }
    for name, found in by_class.items():
        figures[f"score-{name}"] = overall.score if math.isnan(found.score) else found.score
    return {"threshold": figures}


def thresholds_in(results: dict) -> dict | None:
    """Return the thresholds in the results of an evaluation as a checkpoint holds them; None if there are none.

    Args:
        results: {"bbox": ..., "threshold": ...}, or such results by dataset, of which the first with thresholds counts.

    Returns:
        {"all": score, "classes": {class: score}, "f1": of "all", 0..1}.

    Example:
        >>> thresholds_in({"threshold": {"score": 0.3, "F1": 80.0, "score-cat": 0.2}})
        {'all': 0.3, 'classes': {'cat': 0.2}, 'f1': 0.8}
    """
    found = results.get("threshold")
    if found is None:
        nested = (thresholds_in(x) for x in results.values() if isinstance(x, dict))
        return next((x for x in nested if x is not None), None)
    classes = {name.removeprefix("score-"): value for name, value in found.items() if name.startswith("score-")}
    return {"all": found["score"], "classes": classes, "f1": found["F1"] / 100}


def match(rows: np.ndarray, coco: dict, *, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Match detections with the annotations of their class at IoU 0.5, by hotcoco.

    Args:
        rows: (D, 7), image number, x, y, width, height, score, label.
        coco: the annotations, images numbered from 1, categories label + 1.
        most: detections per image that count.

    Returns:
        Labels (D,) int64, and (D,) int8: 1 right, 0 wrong, -1 not counted.
    """
    labels, right = rows[:, 6].astype(np.int64), np.full(len(rows), -1, dtype=np.int8)
    if not len(rows):
        return labels, right
    truth = hotcoco.COCO(coco)
    coco_eval: Any = hotcoco.COCOeval(truth, truth.loadRes(numbered_from_one(rows)), "bbox")
    params = coco_eval.params
    params.iou_thrs, params.max_dets = [MATCH], [most]
    params.area_rng, params.area_rng_lbl = params.area_rng[:1], params.area_rng_lbl[:1]
    coco_eval.params = params
    coco_eval.evaluate()
    status = coco_eval.image_diagnostics(iou_thr=MATCH)["dt_status"]  # by number of the detection, from 1
    for number, verdict in status.items():
        right[number - 1] = verdict == "tp"
    return labels, right
