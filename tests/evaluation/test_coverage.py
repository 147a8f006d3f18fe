"""Which ground truth gets an anchor: the same as from all anchors, and better layouts found."""

import numpy as np
import pytest
import torch
import yaml
from conftest import BASE, tiny_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.structures import Boxes, pairwise_iou

from retina_plugin.evaluation.coverage import AnchorLayout, GroundTruth, advised, coverage, coverage_table, fragment, ground_truth, search


def random_truth(count, size=(96, 128), seed=0, small=4, large=60):
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(small), np.log(large), (count, 2)))
    centre = rng.uniform([0, 0], [size[1], size[0]], (count, 2))
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], axis=1).clip(0, [size[1], size[0]] * 2)
    return GroundTruth(boxes, rng.integers(0, 3, count), np.zeros(count, dtype=int), np.array([size], dtype=float))


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("levels", [[3, 4, 5, 6, 7], [2, 3, 4]])
def test_best_overlaps_are_those_with_every_anchor(levels, offset):
    cfg = tiny_cfg("MODEL.RETINANET.LEVELS", levels, "MODEL.ANCHOR_GENERATOR.OFFSET", offset, "MODEL.ANCHOR_GENERATOR.SCALE", 2.0)
    truth = random_truth(300)
    strides = [2**level for level in levels]
    generator = build_anchor_generator(cfg, [ShapeSpec(channels=1, stride=stride) for stride in strides])
    anchors = Boxes.cat(generator([torch.zeros(1, 1, -(-96 // stride), -(-128 // stride)) for stride in strides]))
    want = pairwise_iou(Boxes(torch.from_numpy(truth.boxes).float()), anchors).amax(dim=1)
    got = AnchorLayout.from_config(cfg).best_overlaps(truth)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


def test_boxes_are_resized_as_the_image_is():
    record = {"height": 480, "width": 640, "annotations": [{"bbox": [10, 20, 30, 40], "category_id": 1}, {"bbox": [0, 0, 640, 480], "category_id": 0, "iscrowd": 1}]}
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
    truth = random_truth(300, size=(512, 512), small=40, large=300)
    now = coverage(truth, AnchorLayout((3, 4, 5, 6, 7), 4.0, 3, (0.5, 1.0, 2.0)))
    best = advised(now, search(truth, now.layout))
    assert best.matched >= now.matched - 1e-9 and best.layout.locations <= 2 * now.layout.locations


def test_the_table_counts_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 40, 40], [0, 0, 10, 100.0]])
    truth = GroundTruth(boxes, np.array([0, 1, 1]), np.zeros(3, dtype=int), np.array([[128.0, 128.0]]))
    lines = coverage_table(truth, np.array([0.0, 0.7, 0.3]), ["cat", "dog"]).splitlines()
    assert lines[2] == "| all | 3 | 1 (33.3 %) | 1 (33.3 %) | 1 |"
    assert "| area below 16² | 1 | 0 (0.0 %) | 0 (0.0 %) | 1 |" in lines and "| area 32²-96² | 1 | 1 (100.0 %) | 0 (0.0 %) | 0 |" in lines
    assert "| taller than 1:2 | 1 | 0 (0.0 %) | 1 (100.0 %) | 0 |" in lines
    assert lines[-1] == "| dog | 2 | 1 (50.0 %) | 1 (50.0 %) | 0 |"


def test_own_sizes_cannot_be_looked_at():
    with pytest.raises(ValueError, match="SIZES lists sizes"):
        AnchorLayout.from_config(tiny_cfg("MODEL.ANCHOR_GENERATOR.SIZES", [[32.0]] * 5))
