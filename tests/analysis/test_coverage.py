"""Which ground truth gets an anchor: the same as from all anchors, and better layouts found."""

import numpy as np
import pytest
import torch
import yaml
from conftest import BASE, tiny_cfg

from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.structures import Boxes, pairwise_iou

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
    ground_truth,
    search,
)


def random_truth(count, size=(96, 128), seed=0, small=4, large=60):
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(small), np.log(large), (count, 2)))
    centre = rng.uniform([0, 0], [size[1], size[0]], (count, 2))
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], axis=1).clip(0, [size[1], size[0]] * 2)
    return GroundTruth(boxes, rng.integers(0, 3, count), np.zeros(count, dtype=int), np.array([size], dtype=float))


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("levels", [[3, 4, 5, 6, 7], [2, 3, 4]])
def test_best_overlaps_are_those_with_every_anchor(levels, offset):
    cfg = tiny_cfg(
        "MODEL.RETINANET.LEVELS", levels, "MODEL.ANCHOR_GENERATOR.OFFSET", offset, "MODEL.ANCHOR_GENERATOR.SCALE", 2.0
    )
    truth = random_truth(300)
    strides = [2**level for level in levels]
    generator = build_anchor_generator(cfg, [ShapeSpec(channels=1, stride=stride) for stride in strides])
    anchors = Boxes.cat(generator([torch.zeros(1, 1, -(-96 // stride), -(-128 // stride)) for stride in strides]))
    want = pairwise_iou(Boxes(torch.from_numpy(truth.boxes).float()), anchors).amax(dim=1)
    got = AnchorLayout.from_config(cfg).best_overlaps(truth)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


def test_boxes_are_resized_as_the_image_is():
    record = {
        "height": 480,
        "width": 640,
        "annotations": [
            {"bbox": [10, 20, 30, 40], "category_id": 1},
            {"bbox": [0, 0, 640, 480], "category_id": 0, "iscrowd": 1},
        ],
    }
    truth = ground_truth([record, {"height": 100, "width": 400, "annotations": []}], shortest=240, longest=400)
    assert truth.boxes.tolist() == [[5, 10, 15, 20]] and truth.classes.tolist() == [1]
    assert truth.sizes.tolist() == [[240, 320], [100, 400]]


def test_small_objects_are_covered_after_the_search_and_the_fragment_is_a_config(tmp_path):
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


def test_what_is_covered_is_left_as_it_is():
    truth = truth_with_sides((60, 200), (60, 200))
    now = coverage(truth, AnchorLayout((3, 4, 5, 6, 7), 4.0, 3, (0.5, 1.0, 2.0)))
    assert now.matched >= 0.99
    assert search(truth, now.layout) == [] and advised(now, []) is now
    assert advice(now, [], shortest=512, longest=512).endswith("there is nothing to change.")


def truth_with_sides(width, height, count=200, size=(1024, 1024), seed=0):
    """Boxes with sides between the given bounds, anywhere in one image."""
    rng = np.random.default_rng(seed)
    sides = np.stack([rng.uniform(*width, count), rng.uniform(*height, count)], axis=1)
    corners = rng.uniform(0, 1, (count, 2)) * (np.array(size[::-1]) - sides)
    return GroundTruth(
        np.concatenate([corners, corners + sides], axis=1),
        np.zeros(count, int),
        np.zeros(count, int),
        np.array([size], dtype=float),
    )


@pytest.mark.parametrize(("levels", "width", "height", "reached", "holds"), [
    ((3, 4, 5, 6), (40, 200), (40, 200), 0.99, lambda now, one: one is now),
    ((3, 4, 5, 6), (6, 12), (6, 12), 0.9, lambda now, one: one.layout.levels[0] == 2 or one.layout.input > 1),
    ((3, 4, 5, 6), (500, 1000), (500, 1000), 0.99, lambda now, one: one.layout.levels[-1] == 7 and one.layout.levels[0] == 3),
    ((3, 4, 5), (300, 500), (300, 500), 0.99, lambda now, one: one.layout.levels[-1] == 7),
    ((3, 4, 5, 6), (20, 30), (150, 250), 0.99, lambda now, one: min(one.layout.ratios) > 5 and one.layout.levels == now.layout.levels),
    ((3, 4, 5, 6), (150, 250), (20, 30), 0.99, lambda now, one: max(one.layout.ratios) < 1 / 5 and one.layout.levels == now.layout.levels),
], ids=["fine already", "too small", "too large", "too large for P5", "tall", "wide"])  # fmt: skip
def test_the_advice_suits_the_boxes(levels, width, height, reached, holds):
    truth = truth_with_sides(width, height)
    now = coverage(truth, AnchorLayout(levels, 3.0, 3, (0.5, 1.0, 2.0)))
    found = search(truth, now.layout)
    best = advised(now, found)
    assert holds(now, best) and best.matched >= reached and coverage(truth, best.layout) == best
    assert ("ANCHOR_GENERATOR" in advice(now, found, shortest=1024, longest=1024)) == (best is not now)


def some(matched, *, mean=0.7, least=None, octaves=3):
    return Coverage(AnchorLayout((3, 4, 5), 4.0, octaves, (1.0,)), matched, mean, matched if least is None else least)


@pytest.mark.parametrize(("now", "found", "chosen"), [
    (some(1.0), [some(1.0, octaves=2), some(1.0, mean=0.9)], None),  # nothing where all is covered, cheaper or not
    (some(0.993), [some(0.999)], None),  # nor where as good as all is
    (some(0.98), [some(0.984)], None),  # not worth it
    (some(0.98), [some(0.995), some(1.0, octaves=4)], 0),  # enough: nothing dearer after it
    (some(0.7), [some(0.9), some(0.8), some(0.95)], 2),
    (some(0.7), [some(0.7, octaves=2)], 0),  # as much with fewer
    (some(0.7), [some(0.7, octaves=2, mean=0.6)], None),  # but not farther from the boxes
    (some(0.995, least=0.2), [some(0.994, least=0.95)], 0),  # a class without anchors
    (some(0.995, least=0.2), [some(0.995, least=0.2, octaves=2)], None),  # is no reason for fewer anchors
    (some(0.7), [], None),
])  # fmt: skip
def test_what_is_advised(now, found, chosen):
    assert advised(now, found) is (now if chosen is None else found[chosen])


def test_a_class_that_few_boxes_cover_is_seen_and_named():
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
    assert coverage(fewer, now.layout).least > 0.9, "fewer boxes say nothing"


def test_boxes_that_nothing_covers_are_called_so_and_no_boxes_stop_nothing():
    truth = truth_with_sides((1, 3), (1, 3))
    now = coverage(truth, AnchorLayout((3, 4, 5, 6), 3.0, 3, (0.5, 1.0, 2.0)))
    assert advice(now, search(truth, now.layout), shortest=512, longest=512).startswith(
        "Most boxes stay without an anchor"
    )
    none = GroundTruth(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2)))
    assert search(none, now.layout) == [] and coverage(none, now.layout).matched == 0


def test_the_table_counts_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 40, 40], [0, 0, 10, 100.0]])
    truth = GroundTruth(boxes, np.array([0, 1, 1]), np.zeros(3, dtype=int), np.array([[128.0, 128.0]]))
    lines = coverage_table(truth, np.array([0.0, 0.7, 0.3]), ["cat", "dog"]).splitlines()
    assert lines[2] == "| all | 3 | 1 (33.3 %) | 1 (33.3 %) | 1 |"
    assert (
        "| area below 16² | 1 | 0 (0.0 %) | 0 (0.0 %) | 1 |" in lines
        and "| area 32²-96² | 1 | 1 (100.0 %) | 0 (0.0 %) | 0 |" in lines
    )
    assert "| taller than 1:2 | 1 | 0 (0.0 %) | 1 (100.0 %) | 0 |" in lines
    assert lines[-1] == "| dog | 2 | 1 (50.0 %) | 1 (50.0 %) | 0 |"


def test_own_sizes_cannot_be_looked_at():
    with pytest.raises(ValueError, match="SIZES lists sizes"):
        AnchorLayout.from_config(tiny_cfg("MODEL.ANCHOR_GENERATOR.SIZES", [[32.0]] * 5))
