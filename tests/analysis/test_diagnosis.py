"""Errors that were planted are found exactly; TIDE, calibration and confusion agree with other libraries."""

import json
import math

import numpy as np
import pytest
from planted import planted, random_detections
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from retina_plugin.analysis.diagnosis import ERRORS, as_json, diagnose


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("count", [1, 7])
def test_planted_errors_are_found_exactly(kind, count):
    found = diagnose(planted({kind: count}), samples=0)
    # TIDE counts an object as missed unless a detection has only its class or only its box wrong.
    expected = {kind: count, "Miss": count} if kind == "Both" else {kind: count}
    assert {name: n for name, (n, _) in found.errors.items() if n} == expected


def test_all_kinds_at_once():
    kinds = {"Cls": 4, "Loc": 3, "Both": 2, "Dupe": 5, "Bkg": 6, "Miss": 1}
    found = diagnose(planted(kinds), samples=0)
    assert {name: n for name, (n, _) in found.errors.items()} == {**kinds, "Miss": 1 + 2}


def test_perfect_detections_cost_nothing():
    found = diagnose(planted({}), samples=100)
    assert found.metrics["AP"] == 100 and found.interval == pytest.approx((100, 100))
    assert found.overall.f1 == 1 and not found.missed.any() and (found.status == 1).all()
    assert all(cost == 0 for _, cost in found.errors.values())
    assert found.confusion.tolist() == np.diag([10, 10, 10, 0]).tolist()


def test_no_detections_at_all():
    found = diagnose(planted({"Miss": 5}, right=0), samples=0)
    assert found.metrics["AP"] == 0 and math.isnan(found.overall.score) and found.missed.all()
    assert found.errors["Miss"][0] == 5 and json.dumps(as_json(found))


def test_tide_agrees_with_tidecv():
    tidecv = pytest.importorskip("tidecv")
    detections = random_detections()
    truth, found = tidecv.Data("gt", max_dets=100), tidecv.Data("dt", max_dets=100)
    for x in detections.coco["images"]:
        truth.add_image(x["id"], x["file_name"])
    for k, name in enumerate(detections.class_names):
        truth.add_class(k + 1, name)
    for x in detections.coco["annotations"]:
        truth.add_ground_truth(x["image_id"], x["category_id"], x["bbox"])
    for number, *box, score, label in detections.rows:
        found.add_detection(int(number), int(label) + 1, score, box)
    tide = tidecv.TIDE()
    run = tide.evaluate(truth, found, mode=tidecv.TIDE.BOX)
    ours = diagnose(detections, samples=0).errors
    theirs = {kind.short_name: cost for kind, cost in run.fix_main_errors().items()}
    counts = {kind.short_name: len(errors) for kind, errors in run.error_dict.items()}
    for kind in ERRORS:
        assert ours[kind][0] == counts[kind], kind
        assert ours[kind][1] == pytest.approx(max(theirs[kind], 0.0), abs=0.35), kind


def test_calibration_agrees_with_scikit_learn():
    found = diagnose(random_detections(), samples=0)
    labels_right = found.detections.evaluated(iou_thrs=[0.5]).image_diagnostics(iou_thr=0.5)["dt_status"]
    right = np.array([labels_right[i + 1] == "tp" for i in range(len(found.detections.rows))])
    shares, means = calibration_curve(right, found.detections.rows[:, 5], n_bins=10)
    bins = [x for x in found.calibration["bins"] if x["count"]]
    assert [x["avg_accuracy"] for x in bins] == pytest.approx(list(shares))
    assert [x["avg_confidence"] for x in bins] == pytest.approx(list(means), abs=1e-6)
    error = sum(x["count"] * abs(x["avg_accuracy"] - x["avg_confidence"]) for x in bins) / len(right)
    assert found.calibration["ece"] == pytest.approx(error)


def test_confusion_agrees_with_scikit_learn_where_each_object_has_one_detection():
    found = diagnose(planted({"Cls": 9, "Miss": 3}), samples=0)
    by_image = {int(row[0]): int(row[6]) for row in found.detections.rows}
    annotated = [x["category_id"] - 1 for x in found.detections.coco["annotations"]]
    detected = [by_image.get(x["image_id"], 3) for x in found.detections.coco["annotations"]]
    assert found.confusion.tolist() == confusion_matrix(annotated, detected, labels=range(4)).tolist()


def test_worst_images_come_first_and_their_counts_add_up():
    found = diagnose(random_detections(), samples=0)
    mistakes = [x.wrong + x.missed for x in found.images]
    assert mistakes == sorted(mistakes, reverse=True) and len(found.images) == 60
    assert sum(x.right for x in found.images) == (found.status == 1).sum()
    assert sum(x.wrong for x in found.images) == (found.status == 0).sum()
    assert sum(x.missed for x in found.images) == found.missed.sum()
    assert sum(x.right + x.missed for x in found.images) == len(found.detections.coco["annotations"])


def test_the_interval_contains_ap_and_narrows_with_more_images():
    few, many = (diagnose(random_detections(num_images=n), samples=200) for n in (40, 400))
    assert few.interval[0] < few.metrics["AP"] < few.interval[1]
    assert few.interval[1] - few.interval[0] > 1.5 * (many.interval[1] - many.interval[0])


def test_voc_metrics_are_those_of_its_evaluator(small_digits):
    from retina_plugin.analysis.diagnosis import other_metrics
    from retina_plugin.evaluation.voc import average_precisions, matched

    detections = random_detections()
    detections.dataset = "digits_val"  # the evaluator needs a registered one; its annotations are not used
    names = [str(i) for i in range(10)]
    found = other_metrics(detections, ["voc"])["voc"]
    truth = [x for x in detections.coco["annotations"] if x["category_id"] == 1]
    area, _ = average_precisions(*matched(detections.rows[detections.rows[:, 6] == 0], truth))
    assert found[f"AP50-{names[0]}"] == pytest.approx(100 * area) and 0 < found["AP50"] < 100
    with pytest.raises(ValueError, match="needs an LVIS dataset"):
        other_metrics(detections, ["lvis"])
