"""VOC's metrics, worked by hand and compared with Detectron2's."""

import math

import numpy as np
import pytest
from support import ROOT

from detectron2.evaluation.pascal_voc_evaluation import voc_ap

from retina_plugin import load_config
from retina_plugin.evaluation.voc import average_precisions, matched


def rows(*found):
    """Return detections of one class from (image, x, y, width, height, score)."""
    return np.array([[*row, 0] for row in found], dtype=np.float32).reshape(-1, 7)


def truth(*boxes, crowd=()):
    return [
        {"id": i, "image_id": image, "bbox": list(box), "iscrowd": int(i in crowd)}
        for i, (image, *box) in enumerate(boxes)
    ]


def test_duplicates_are_false_and_difficult_objects_are_left_out():
    boxes = truth((1, 0, 0, 10, 10), (1, 50, 0, 10, 10), (2, 0, 0, 10, 10), crowd={1})
    found = rows(
        (1, 0, 0, 10, 10, 0.9),
        (1, 1, 0, 10, 10, 0.8),
        (1, 50, 0, 10, 10, 0.7),
        (2, 0, 0, 10, 20, 0.6),
        (2, 0, 0, 10, 21, 0.5),
        (3, 0, 0, 5, 5, 0.4),
    )
    hits, count = matched(found, boxes)
    # True; duplicate of the same box; (difficult, left out); IoU 100 / 200 = 0.5 is enough; IoU 100 / 210 is not, and
    # the box is already matched; no box in that image.
    assert hits.tolist() == [True, False, True, False, False] and count == 2


def test_detection_is_matched_with_the_box_it_overlaps_most():
    """COCO would match the second detection with the second box, which is still free."""
    boxes = truth((1, 0, 0, 10, 10), (1, 3, 0, 10, 10))
    hits, _ = matched(rows((1, 0, 0, 10, 10, 0.9), (1, 1, 0, 10, 10, 0.8)), boxes)
    assert hits.tolist() == [True, False]


@pytest.mark.parametrize("seed", range(5))
def test_both_averages_equal_those_of_the_development_kit(seed):
    draw = np.random.default_rng(seed)
    hits = draw.random(60) < 0.5
    count = int(hits.sum()) + int(draw.integers(0, 20))
    right = np.cumsum(hits)
    recall, precision = right / count, right / np.arange(1, 61)
    area, eleven = average_precisions(hits, count)
    assert area == pytest.approx(voc_ap(recall, precision, use_07_metric=False))
    assert eleven == pytest.approx(voc_ap(recall, precision, use_07_metric=True), abs=1e-6)


def test_no_objects_no_detections_and_perfect_detections():
    assert all(math.isnan(x) for x in average_precisions(np.zeros(3, bool), 0))
    assert average_precisions(np.zeros(0, bool), 4) == (0.0, 0.0)
    assert average_precisions(np.ones(4, bool), 4) == (1.0, 1.0)
    assert matched(rows(), [])[0].size == 0


@pytest.mark.parametrize(
    "evaluator, metric, message",
    [
        ("hotcoco", "bbox/APX", "'bbox/APX' is not a metric of TEST.EVALUATOR hotcoco; did you mean AP"),
        ("voc", "bbox/AP75", "Available: AP50, AP50-11, and the metrics per class"),
        ("detectron2", "bbox/AP-eleven", "is not a metric of TEST.EVALUATOR detectron2"),
        ("lvis", "bbox/APx", "APr, APc, APf"),
    ],
)
def test_best_metric_unknown_to_the_evaluator_is_refused_before_training(evaluator, metric, message, small_digits):
    with pytest.raises(ValueError) as error:
        load_config(
            ROOT / "configs/digits/quickstart.yaml",
            ["MODEL.DEVICE", "cpu", "TEST.EVALUATOR", evaluator, "TEST.BEST_METRIC", metric],
        )
    assert message in str(error.value)


@pytest.mark.parametrize(
    "evaluator, metric, want",
    [
        ("voc", "bbox/AP", "bbox/AP50"),
        ("voc", "bbox/AP50-7", "bbox/AP50-7"),
        ("hotcoco", "bbox/AP-7", "bbox/AP-7"),
        ("hotcoco", "validation/total_loss", None),
        ("lvis", "bbox/APr", "bbox/APr"),
    ],
)
def test_best_metric_known_to_the_evaluator_is_accepted(evaluator, metric, want, small_digits):
    cfg = load_config(
        ROOT / "configs/digits/quickstart.yaml",
        ["MODEL.DEVICE", "cpu", "TEST.EVALUATOR", evaluator, "TEST.BEST_METRIC", metric],
    )
    assert (want or metric) == cfg.TEST.BEST_METRIC
