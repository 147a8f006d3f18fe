"""The score threshold with the best F1: against trying every threshold, and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from retina_plugin.evaluation.thresholds import best_threshold, find_thresholds, threshold_results, thresholds_in


@pytest.mark.parametrize("seed", range(8))
def test_no_other_threshold_is_better(seed):
    rng = np.random.default_rng(seed)
    scores, right = np.round(rng.random(60), 2), rng.random(60) < 0.5
    found = best_threshold(scores, right, int(right.sum()))  # every object has a detection, as in classification
    others = [f1_score(right, scores >= t, zero_division=0) for t in np.linspace(0, 1, 201)]
    assert found.f1 == pytest.approx(max(others)) == pytest.approx(f1_score(right, scores >= found.score))


def test_missed_objects_lower_recall_and_f1():
    found = best_threshold(np.array([0.9]), np.array([True]), 4)
    assert (found.precision, found.recall, found.f1) == (1.0, 0.25, 0.4) and 0 < found.score <= 0.9


@pytest.mark.parametrize("scores, right", [([], []), ([0.9, 0.8], [False, False])])
def test_there_is_no_threshold_without_a_right_detection(scores, right):
    found = best_threshold(np.array(scores), np.array(right, dtype=bool), 3)
    assert np.isnan(found.score) and found.f1 == 0


def test_equal_scores_are_kept_or_dropped_together():
    found = best_threshold(np.array([0.5, 0.5, 0.4]), np.array([True, False, False]), 1)
    assert found.f1 == pytest.approx(2 / 3) and 0.4 < found.score <= 0.5


def box(number, x, label=1, crowd=0):
    return {"id": number, "image_id": 1, "category_id": label, "bbox": [x, 0, 10, 10], "area": 100, "iscrowd": crowd}


COCO = {
    "info": {},
    "images": [{"id": 1, "height": 100, "width": 200, "file_name": "a"}],
    "annotations": [box(1, 0), box(2, 40), box(3, 80, label=2), box(4, 120, crowd=1)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "emu"}],
}


def rows(*found):
    """Rows of (x, score, label)."""
    return np.array([[1, x, 0, 10, 10, score, label] for x, score, label in found], dtype=np.float32).reshape(-1, 7)


def test_classes_have_thresholds_of_their_own_and_crowds_do_not_count():
    found = rows((0, 0.9, 0), (41, 0.8, 0), (60, 0.6, 0), (120, 0.7, 0), (80, 0.3, 1), (0, 0.2, 1))
    overall, by_class = find_thresholds(found, COCO, ["cat", "dog", "emu"], most=100)
    assert 0.6 < by_class["cat"].score < 0.8 and by_class["cat"].f1 == 1
    assert 0.2 < by_class["dog"].score < 0.3 and by_class["dog"].f1 == 1
    assert np.isnan(by_class["emu"].score)
    # 3 of 3 objects and one wrong detection, instead of 2 of 3 objects
    assert overall.f1 == pytest.approx(6 / 7) and overall.score == pytest.approx(0.25)


def test_a_class_without_a_right_detection_has_the_threshold_of_all():
    results = threshold_results(rows((0, 0.9, 0), (0, 0.5, 2)), COCO, ["cat", "dog", "emu"], most=100)["threshold"]
    assert results["score-emu"] == results["score-dog"] == results["score"] and results["F1"] == pytest.approx(50)


def test_results_without_a_right_detection_have_no_threshold():
    assert threshold_results(rows((60, 0.9, 0)), COCO, ["cat", "dog", "emu"], most=100) == {}
    assert threshold_results(rows(), COCO, ["cat", "dog", "emu"], most=100) == {}


def test_only_the_best_detections_of_an_image_count():
    overall, _ = find_thresholds(rows((0, 0.9, 0), (40, 0.8, 0)), COCO, ["cat", "dog", "emu"], most=1)
    assert overall.recall == pytest.approx(1 / 3)


def test_of_several_datasets_the_first_with_thresholds_counts():
    results = {"a": {"bbox": {"AP": 1.0}}, "b": {"threshold": {"score": 0.3, "F1": 50.0, "score-cat-big": 0.4}}}
    assert thresholds_in(results) == {"all": 0.3, "classes": {"cat-big": 0.4}, "f1": 0.5}
    assert thresholds_in({}) is None
