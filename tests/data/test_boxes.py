"""Boxes that cannot be used, and clipping."""

import math

import numpy as np
import pytest

from retina_plugin.data.boxes import FAULTS, checked_boxes, extent, fault_of


def check(box, size=(50, 100)):
    clipped, fault, beyond = checked_boxes(np.array([box], dtype=float), np.array([size], dtype=float))
    return clipped[0].tolist(), int(fault[0]), bool(beyond[0])


@pytest.mark.parametrize(
    "box, said",
    [
        ([10.0, 10.0, 10.0, 20.0], "zero size"),
        ([10.0, 20.0, 30.0, 20.0], "zero size"),
        ([30.0, 10.0, 20.0, 40.0], "corners swapped"),
        ([100.0, 0.0, 120.0, 20.0], "lies outside the image of 100x50"),
        ([-20.0, 0.0, 0.0, 20.0], "lies outside"),
        ([math.nan, 0.0, 5.0, 5.0], "not finite"),
        ([0.0, 0.0, math.inf, 5.0], "not finite"),
    ],
)
def test_unusable_boxes_are_left_out_with_a_reason(box, said):
    _, fault, _ = check(box)
    assert fault and said in fault_of(fault, np.array(box), np.array([50.0, 100.0])) and len(FAULTS) == 5


def test_a_box_beyond_its_image_is_clipped_and_reported_if_by_more_than_a_pixel():
    assert check([-5.0, 10.0, 120.0, 60.0]) == ([0.0, 10.0, 100.0, 50.0], 0, True)
    assert check([-0.5, 0.0, 100.9, 50.0]) == ([0.0, 0.0, 100.0, 50.0], 0, False)


def test_no_boxes_at_all():
    clipped, fault, beyond = checked_boxes(np.zeros((0, 4)), np.zeros((0, 2)))
    assert len(clipped) == len(fault) == len(beyond) == 0


def test_the_extent_of_what_is_no_polygon_is_none():
    assert [extent(points) for points in ([], [1, 2], [1, 2, 3], "abcd", {"a": 1}, [[None]])] == [None] * 6
