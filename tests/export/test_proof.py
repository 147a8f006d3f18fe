"""Differences between a file and its checkpoint are found, and ties are no differences."""

import numpy as np
import pytest

from retina_plugin.export.proof import BOUNDS, Differences, Measured, compare_sizes, problems
from retina_plugin.inference.stream import Found

BOXES = np.array([[0, 0, 10, 10], [30, 30, 50, 60], [5, 70, 20, 90]], np.float32)
SCORES, LABELS = np.array([0.9, 0.6, 0.3], np.float32), np.array([0, 1, 0])
THEIRS = Found(BOXES, SCORES, LABELS)


def compared(ours, most=100):
    found = Differences()
    found.add(THEIRS, ours, floor=0.05, most=most)
    return found


def test_equal_detections_in_any_order():
    assert compared(Found(BOXES[::-1], SCORES[::-1], LABELS[::-1])) == Differences(compared=3)


def test_moved_boxes_and_changed_scores_are_measured():
    found = compared(Found(BOXES + np.float32(0.25), SCORES - np.float32(0.01), LABELS))
    assert (found.compared, found.lacking) == (3, 0) and found.box == pytest.approx(0.25)
    assert found.score == pytest.approx(0.01, abs=1e-6)


@pytest.mark.parametrize(
    "ours, lacking",
    [
        (Found(BOXES[:2], SCORES[:2], LABELS[:2]), 1),
        (Found(BOXES, SCORES, np.array([0, 0, 0])), 2),
        (Found(BOXES + 5, SCORES, LABELS), 0),  # equal scores, overlapping boxes: ties
        (Found(BOXES + 500, SCORES, LABELS), 6),
        (Found(BOXES[:0], SCORES[:0], LABELS[:0]), 3),
    ],
)
def test_detections_of_one_side_only(ours, lacking):
    assert compared(ours).lacking == lacking


def test_a_detection_at_the_minimum_score_may_be_missing():
    more = Found(np.vstack([BOXES, [[90, 90, 99, 99]]]), np.append(SCORES, np.float32(0.0505)), np.append(LABELS, 1))
    assert compared(more).lacking == 0
    assert compared(more, most=4).lacking == 0
    high = Found(more.boxes, np.append(SCORES, np.float32(0.2)), more.labels)
    assert compared(high).lacking == 1


@pytest.mark.parametrize("precision", BOUNDS)
def test_a_file_within_its_bound_has_no_problems(precision):
    assert problems(precision, Differences(compared=9), Measured(50, 1), Measured(50.04, 1)) == []


@pytest.mark.parametrize(
    "precision, found, ap, words",
    [
        ("fp32", Differences(lacking=2), 50, "2 detections are in only one"),
        ("fp32", Differences(box=0.06), 50, "boxes differ by up to 0.06 px"),
        ("fp32", Differences(score=2e-4), 50, "scores differ by up to 0.0002"),
        ("fp32", Differences(), 50.06, "AP is 50.06 instead of 50.00"),
        ("int8", Differences(lacking=99, box=9), 49.4, "AP is 49.40 instead of 50.00"),
    ],
)
def test_what_exceeds_the_bound_is_named(precision, found, ap, words):
    (problem,) = problems(precision, found, Measured(50, 1), Measured(ap, 1))
    assert words in problem


class Fixed:
    """Finds the same in every image, and notes the sizes."""

    def __init__(self):
        self.sizes = []

    def map_array(self, image, name):
        self.sizes.append(image.shape[:2])
        return {}

    def run(self, records, passed):
        return [THEIRS]


def test_several_sizes_are_compared_and_noise_without_images():
    one, other = Fixed(), Fixed()
    assert compare_sizes(one, other, [], floor=0.05, most=100).compared == 12
    assert one.sizes == other.sizes and len(set(one.sizes)) == 4
