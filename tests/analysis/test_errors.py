"""Correct, wrong and missed boxes, worked by hand."""

import numpy as np

from retina_plugin.analysis.errors import image_errors

GT = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], dtype=float)


def test_each_box_is_matched_once_by_the_highest_score():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [21, 0, 30, 10], [50, 50, 60, 60]], dtype=float)
    errors = image_errors(boxes, np.array([0, 0, 0, 0]), np.array([0.6, 0.9, 0.5, 0.8]), GT, np.array([0, 0]))
    assert errors.right.tolist() == [False, True, True, False] and not errors.missed.any() and errors.count == 2


def test_different_class_is_no_match_and_without_detections_all_is_missed():
    errors = image_errors(GT, np.array([0, 1]), np.array([0.9, 0.9]), GT, np.array([0, 0]))
    assert errors.right.tolist() == [True, False] and errors.missed.tolist() == [False, True] and errors.count == 2
    empty = np.zeros((0, 4))
    assert image_errors(empty, [], [], GT, np.array([0, 0])).count == 2
    assert image_errors(GT, np.array([0, 0]), np.array([0.5, 0.5]), empty, []).count == 2
    assert image_errors(empty, [], [], empty, []).count == 0
