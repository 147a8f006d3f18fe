"""What a detector gets right and wrong: metrics, errors and what they cost, calibration, slices of the data."""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import hotcoco
import numpy as np

from retina_plugin.analysis.detections import Detections
from retina_plugin.analysis.slices import Slice, image_slices, shape_slices, size_slices
from retina_plugin.evaluation.hotcoco import coco_figures
from retina_plugin.evaluation.lvis import LvisEvaluator
from retina_plugin.evaluation.thresholds import Threshold, best_threshold, match
from retina_plugin.evaluation.voc import VocEvaluator

MATCH = 0.5
"""IoU from which a detection is right, everywhere but in COCO's AP."""

SAMPLES = 1000
"""Bootstrap samples of an interval."""

ERRORS = {
    "Cls": "wrong class",
    "Loc": "box not tight enough",
    "Both": "wrong class and box",
    "Dupe": "duplicate",
    "Bkg": "background taken for an object",
    "Miss": "missed object",
}
"""TIDE's kinds of errors, by its names (Bolya et al. 2020, *TIDE*, section 2.2)."""


class ClassResult(NamedTuple):
    """How one class is detected; AP in percent, the others at its own threshold, 0..1."""

    name: str
    images: int
    objects: int
    ap: float
    ap50: float
    threshold: Threshold


class ImageResult(NamedTuple):
    """Detections of one image from the threshold on."""

    number: int
    file: str
    right: int
    wrong: int
    missed: int


@dataclass
class Diagnosis:
    """Everything that ``retina analyze`` shows.

    Attributes:
        detections: what was judged.
        metrics: COCO's, in percent.
        interval: 95 % interval of AP over images, percent; NaN if it was not computed.
        overall: threshold of all classes with the best F1.
        classes: from the lowest AP to the highest.
        errors: TIDE's, kind -> (count, AP50 that removing them would add, in percent).
        confusion: (K + 1, K + 1) counts, rows the annotated class, columns the detected one, last: background.
        calibration: hotcoco's, with "ece" and "bins".
        curves: by class and for "all": arrays of score, precision, recall and F1.
        slices: parts of the images and of the objects.
        images: from the most mistakes to the fewest.
        status: of each detection in ``detections.rows``: 1 right, 0 wrong, -1 not counted or below the threshold.
        missed: (M,) bool, for each annotation of ``detections.coco``.
        advice: sentences drawn from the numbers.
        others: metrics of other benchmarks, benchmark -> metric -> percent.
    """

    detections: Detections
    metrics: dict[str, float]
    interval: tuple[float, float]
    overall: Threshold
    classes: list[ClassResult]
    errors: dict[str, tuple[int, float]]
    confusion: np.ndarray
    calibration: dict[str, Any]
    curves: dict[str, np.ndarray]
    slices: list[Slice]
    images: list[ImageResult]
    status: np.ndarray
    missed: np.ndarray
    advice: list[str] = field(default_factory=list)
    others: dict[str, dict[str, float]] = field(default_factory=dict)


def diagnose(
    detections: Detections, *, properties: dict[str, dict[int, Any]] | None = None, samples: int = SAMPLES
) -> Diagnosis:
    """Analyse detections.

    Args:
        detections: to analyse.
        properties: further properties of images to slice by, name -> image number -> number or text.
        samples: of the bootstrap; 0: no interval, which takes most of the time.
    """
    evaluated = detections.evaluated()
    metrics = coco_figures(evaluated, detections.class_names)
    labels, right = match(detections.rows, detections.coco, most=detections.most)
    thresholds, curves = _thresholds(detections, labels, right)
    overall = thresholds["all"]
    score = 0.5 if math.isnan(overall.score) else overall.score
    status, missed, images = _by_image(detections, score)
    tide = evaluated.tide_errors()
    sizes = evaluated.confusion_matrix(iou_thr=MATCH, min_score=score)
    return Diagnosis(
        detections=detections,
        metrics=metrics,
        interval=_interval(detections, evaluated, samples) if samples else (math.nan, math.nan),
        overall=overall,
        classes=_classes(detections, evaluated, metrics, thresholds),
        errors={kind: (tide["counts"][kind], 100 * max(tide["delta_ap"][kind], 0.0)) for kind in ERRORS},
        confusion=np.asarray(sizes["matrix"]).astype(int),
        calibration=evaluated.calibration(),
        curves=curves,
        slices=[
            *image_slices(detections, evaluated, missed, properties or {}),
            *size_slices(detections, missed),
            *shape_slices(detections, missed),
        ],
        images=images,
        status=status,
        missed=missed,
    )


def _thresholds(
    detections: Detections, labels: np.ndarray, right: np.ndarray
) -> tuple[dict[str, Threshold], dict[str, np.ndarray]]:
    """Return the best threshold and the curves (4, n) of score, precision, recall and F1, by class and for "all"."""
    scores, counted = detections.rows[:, 5].astype(np.float64), right >= 0
    objects = np.array([not x["iscrowd"] for x in detections.coco["annotations"]], dtype=bool)
    classes = np.array([x["category_id"] - 1 for x in detections.coco["annotations"]], dtype=np.int64)
    thresholds, curves = {}, {}
    for name, label in [("all", None), *((name, k) for k, name in enumerate(detections.class_names))]:
        mine = counted if label is None else counted & (labels == label)
        count = int((objects if label is None else objects & (classes == label)).sum())
        key = "all" if label is None else f"class {name}"
        thresholds[key] = best_threshold(scores[mine], right[mine] > 0, count)
        order = np.argsort(-scores[mine], kind="stable")
        hits = np.cumsum(right[mine][order] > 0)
        kept = np.arange(1, len(hits) + 1)
        curves[key] = np.stack(
            [scores[mine][order], hits / kept, hits / max(count, 1), 2 * hits / np.maximum(kept + count, 1)]
        )
    return thresholds, curves


def _by_image(detections: Detections, score: float) -> tuple[np.ndarray, np.ndarray, list[ImageResult]]:
    """Return the status of each detection, which annotations are missed, and the counts of each image."""
    kept = np.flatnonzero(detections.rows[:, 5] >= score)
    found = detections.above(score).evaluated(iou_thrs=[MATCH]).image_diagnostics(iou_thr=MATCH, score_thr=score)
    status = np.full(len(detections.rows), -1, dtype=np.int8)
    if len(kept):
        for number, verdict in found["dt_status"].items():
            status[kept[number - 1]] = verdict == "tp"
    missed = np.array([found["gt_status"].get(x["id"]) == "fn" for x in detections.coco["annotations"]], dtype=bool)
    files = {x["id"]: x["file_name"] for x in detections.coco["images"]}
    counts = {number: [0, 0, 0] for number in files}
    for row, verdict in zip(detections.rows, status, strict=True):
        if verdict >= 0:
            counts[int(row[0])][0 if verdict else 1] += 1
    for annotation, was in zip(detections.coco["annotations"], missed, strict=True):
        counts[annotation["image_id"]][2] += int(was)
    images = [ImageResult(number, files[number], *values) for number, values in counts.items()]
    images.sort(key=lambda x: (-x.wrong - x.missed, x.number))
    return status, missed, images


def _interval(detections: Detections, evaluated: Any, samples: int) -> tuple[float, float]:
    """Return the 95 % interval of AP, percent, by bootstrap over images: the difference to a detector of nothing."""
    nothing = detections.above(2.0).evaluated()
    found = hotcoco.compare(nothing, evaluated, n_bootstrap=samples, seed=0)["ci"]["AP"]
    return 100 * found["lower"], 100 * found["upper"]


def _classes(
    detections: Detections, evaluated: Any, metrics: dict[str, float], thresholds: dict[str, Threshold]
) -> list[ClassResult]:
    """Return the result of each class, the lowest AP first."""
    precision = np.asarray(evaluated.eval["precision"])[0, :, :, 0, -1]  # recall x class
    results = []
    for label, name in enumerate(detections.class_names):
        mine = [x for x in detections.coco["annotations"] if x["category_id"] == label + 1 and not x["iscrowd"]]
        there = precision[:, label][precision[:, label] > -1]
        ap50 = 100 * float(there.mean()) if there.size else math.nan
        images = len({x["image_id"] for x in mine})
        ap = metrics[f"AP-{name}"]
        results.append(ClassResult(name, images, len(mine), ap, ap50, thresholds[f"class {name}"]))
    return sorted(results, key=lambda x: -1.0 if math.isnan(x.ap) else x.ap)


def as_json(found: Diagnosis) -> dict:
    """Return a diagnosis as plain values."""
    parts = (
        "metrics",
        "interval",
        "overall",
        "classes",
        "errors",
        "confusion",
        "calibration",
        "slices",
        "images",
        "others",
    )
    return {
        "dataset": found.detections.dataset,
        "detections": str(found.detections.source),
        **{name: plain(getattr(found, name)) for name in parts},
        "class_names": list(found.detections.class_names),
        "advice": found.advice,
    }


def other_metrics(detections: Detections, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the metrics of other benchmarks.

    Args:
        detections: to score.
        names: of evaluators in TEST.EVALUATOR, "voc" or "lvis".

    Raises:
        ValueError: the dataset is not annotated as LVIS is.
    """
    kinds = {"voc": VocEvaluator, "lvis": LvisEvaluator}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            evaluator = kinds[name](detections.dataset, output_dir=folder, detections_per_image=detections.most)
            found[name] = evaluator.score(detections.rows, detections.coco)["bbox"]
    return found


def plain(value: Any) -> Any:
    """Return a value of tuples, dicts, lists and arrays as JSON has them; NaN becomes None."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(x) for name, x in value._asdict().items()}
    if isinstance(value, dict):
        return {str(name): plain(x) for name, x in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(x) for x in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    return None if isinstance(value, float) and math.isnan(value) else value
