"""Boxes that cannot be used, one by one."""

import math

import pytest

from retina_plugin.data.problems import DatasetProblems, Problem, checked_box, describe

WHERE = {"width": 100, "height": 50, "file": "a.json", "image": 7, "annotation": 3}


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
    usable, problem = checked_box(box, **WHERE)
    assert usable is None
    assert said in str(problem) and str(problem).startswith("a.json, image 7, annotation 3:") and problem.done == "left out"


def test_a_box_beyond_the_border_is_clipped_and_said_so():
    usable, problem = checked_box([-5.0, 10.0, 120.0, 60.0], **WHERE)
    assert usable == [0.0, 10.0, 100.0, 50.0]
    assert "reaches beyond" in str(problem) and problem.done == "clipped to it"


def test_a_pixel_of_tolerance_at_the_border_is_no_problem():
    assert checked_box([-0.5, 0.0, 100.9, 50.0], **WHERE) == ([0.0, 0.0, 100.0, 50.0], None)


def test_many_problems_are_counted_and_cut():
    text = describe([Problem("f", f"wrong {i}") for i in range(60)])
    assert text.startswith("60 problems") and "wrong 49" in text and "wrong 50" not in text and "and 10 more (10 left out)" in text


def test_the_error_carries_all_problems():
    error = DatasetProblems("cells", [Problem("f", "wrong")])
    assert len(error.problems) == 1 and "dataset cells: 1 problem" in str(error) and "ON_PROBLEM" in str(error)
