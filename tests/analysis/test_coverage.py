"""Coverage of boxes by anchors, the search for better layouts, and the advice."""

import numpy as np
import pytest
import yaml
from support import BASE, tiny_cfg

from retina_plugin.analysis.coverage import (
    FEW,
    AnchorLayout,
    Coverage,
    GroundTruth,
    advice,
    advised,
    coverage,
    coverage_table,
    fragment,
    search,
)


def random_truth(count, size=(96, 128), seed=0, small=4, large=60):
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(small), np.log(large), (count, 2)))
    centre = rng.uniform([0, 0], [size[1], size[0]], (count, 2))
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], axis=1).clip(0, [size[1], size[0]] * 2)
    return GroundTruth(boxes, rng.integers(0, 3, count), np.zeros(count, dtype=int), np.array([size], dtype=float))


def test_search_covers_small_objects_and_the_fragment_is_a_config(tmp_path):
    truth = random_truth(500, size=(256, 256), small=6, large=14)
    now = coverage(truth, AnchorLayout((3, 4, 5, 6, 7), 4.0, 3, (0.5, 1.0, 2.0)))
    assert now.matched < 0.05
    found = search(truth, now.layout)
    best = advised(now, found)
    assert found[0].matched > 0.35, "smaller anchors alone"
    assert max(one.matched for one in found) > 0.9 and best.matched > 0.9, "with P2 or a larger input"
    text = fragment(best.layout, shortest=256, longest=400)
    (tmp_path / "mine.yaml").write_text(f"_BASE_: {BASE}\n{text}")
    cfg = tiny_cfg(base=tmp_path / "mine.yaml")
    assert AnchorLayout.from_config(cfg).shapes().tolist() == best.layout.shapes().tolist()
    assert ("INPUT" in yaml.safe_load(text)) == (best.layout.input != 1)


def test_sufficient_layout_is_kept():
    truth = truth_with_sides((60, 200), (60, 200))
    now = coverage(truth, AnchorLayout((3, 4, 5, 6, 7), 4.0, 3, (0.5, 1.0, 2.0)))
    assert now.matched >= 0.99
    assert search(truth, now.layout) == [] and advised(now, []) is now
    assert advice(now, [], shortest=512, longest=512).endswith("no change is needed.")


def truth_with_sides(width, height, count=200, size=(1024, 1024), seed=0):
    """Return boxes with sides between the given bounds, anywhere in one image."""
    rng = np.random.default_rng(seed)
    sides = np.stack([rng.uniform(*width, count), rng.uniform(*height, count)], axis=1)
    corners = rng.uniform(0, 1, (count, 2)) * (np.array(size[::-1]) - sides)
    return GroundTruth(
        np.concatenate([corners, corners + sides], axis=1),
        np.zeros(count, int),
        np.zeros(count, int),
        np.array([size], dtype=float),
    )


UP_TO_P6 = (3, 4, 5, 6)


@pytest.mark.parametrize(("levels", "width", "height", "reached", "holds"), [
    (UP_TO_P6, (40, 200), (40, 200), 0.99, lambda now, best: best is now),
    (UP_TO_P6, (6, 12), (6, 12), 0.9, lambda now, best: best.layout.levels[0] == 2 or best.layout.input > 1),
    (UP_TO_P6, (500, 1000), (500, 1000), 0.99, lambda now, best: best.layout.levels == (3, 4, 5, 6, 7)),
    ((3, 4, 5), (300, 500), (300, 500), 0.99, lambda now, best: best.layout.levels[-1] == 7),
    (UP_TO_P6, (20, 30), (150, 250), 0.99, lambda now, best: min(best.layout.ratios) > 5 and same_levels(now, best)),
    (UP_TO_P6, (150, 250), (20, 30), 0.99, lambda now, best: max(best.layout.ratios) < 0.2 and same_levels(now, best)),
], ids=["fine already", "too small", "too large", "too large for P5", "tall", "wide"])  # fmt: skip
def test_advice_suits_the_boxes(levels, width, height, reached, holds):
    truth = truth_with_sides(width, height)
    now = coverage(truth, AnchorLayout(levels, 3.0, 3, (0.5, 1.0, 2.0)))
    found = search(truth, now.layout)
    best = advised(now, found)
    assert holds(now, best) and best.matched >= reached and coverage(truth, best.layout) == best
    assert ("ANCHOR_GENERATOR" in advice(now, found, shortest=1024, longest=1024)) == (best is not now)


def same_levels(now, best):
    return best.layout.levels == now.layout.levels


def some(matched, *, mean=0.7, least=None, octaves=3):
    return Coverage(AnchorLayout((3, 4, 5), 4.0, octaves, (1.0,)), matched, mean, matched if least is None else least)


@pytest.mark.parametrize(("now", "found", "chosen"), [
    (some(1.0), [some(1.0, octaves=2), some(1.0, mean=0.9)], None),  # all covered: no change, even if cheaper
    (some(0.993), [some(0.999)], None),  # nor if nearly all are covered
    (some(0.98), [some(0.984)], None),  # not worth the cost
    (some(0.98), [some(0.995), some(1.0, octaves=4)], 0),  # enough: no more expensive one after it
    (some(0.7), [some(0.9), some(0.8), some(0.95)], 2),
    (some(0.7), [some(0.7, octaves=2)], 0),  # same coverage with fewer anchors
    (some(0.7), [some(0.7, octaves=2, mean=0.6)], None),  # unless they are farther from the boxes
    (some(0.995, least=0.2), [some(0.994, least=0.95)], 0),  # a class that lacks anchors
    (some(0.995, least=0.2), [some(0.995, least=0.2, octaves=2)], None),  # fewer anchors do not help that class
    (some(0.7), [], None),
])  # fmt: skip
def test_choice_of_the_advised_layout(now, found, chosen):
    assert advised(now, found) is (now if chosen is None else found[chosen])


def test_class_that_is_covered_less_than_the_others_is_reported():
    large, small = truth_with_sides((60, 200), (60, 200), 2000), truth_with_sides((5, 7), (5, 7), FEW)
    truth = GroundTruth(
        np.concatenate([large.boxes, small.boxes]),
        np.repeat([0, 1], [2000, FEW]),
        np.zeros(2000 + FEW, int),
        large.sizes,
    )
    now = coverage(truth, AnchorLayout((3, 4, 5, 6), 4.0, 3, (0.5, 1.0, 2.0)))
    assert now.matched > 0.98 and now.least == 0.0 and not now.enough
    assert "0.0 % of the class covered least" in advice(now, [], shortest=512, longest=512)
    fewer = GroundTruth(truth.boxes[1:], np.repeat([1, 0], [FEW - 1, 2000]), truth.image[1:], truth.sizes)
    assert coverage(fewer, now.layout).least > 0.9, "classes with fewer boxes do not count"


def test_boxes_that_no_layout_covers_and_no_boxes_at_all():
    truth = truth_with_sides((1, 3), (1, 3))
    now = coverage(truth, AnchorLayout((3, 4, 5, 6), 3.0, 3, (0.5, 1.0, 2.0)))
    text = advice(now, search(truth, now.layout), shortest=512, longest=512)
    assert text.startswith("No layout covers most of the boxes; larger images, or images cut into tiles, would.")
    none = GroundTruth(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2)))
    assert search(none, now.layout) == [] and coverage(none, now.layout).matched == 0


def test_table_counts_worked_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 40, 40], [0, 0, 10, 100.0]])
    truth = GroundTruth(boxes, np.array([0, 1, 1]), np.zeros(3, dtype=int), np.array([[128.0, 128.0]]))
    lines = coverage_table(truth, np.array([0.0, 0.7, 0.3]), ["cat", "dog"]).splitlines()
    assert lines[2] == "| all | 3 | 1 (33.3 %) | 1 (33.3 %) | 1 |"
    assert "| area below 16² | 1 | 0 (0.0 %) | 0 (0.0 %) | 1 |" in lines
    assert "| area 32²-96² | 1 | 1 (100.0 %) | 0 (0.0 %) | 0 |" in lines
    assert "| taller than 1:2 | 1 | 0 (0.0 %) | 1 (100.0 %) | 0 |" in lines
    assert lines[-1] == "| dog | 2 | 1 (50.0 %) | 1 (50.0 %) | 0 |"
