"""Anchors of a config and the best IoU of boxes with them, compared with Detectron2's anchor generator."""

import numpy as np
import pytest
import torch
from support import tiny_cfg

from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.structures import Boxes, pairwise_iou

from retina_plugin.analysis.anchor_layout import AnchorLayout, GroundTruth, ground_truth


def random_truth(count, size=(96, 128), seed=0):
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(4), np.log(60), (count, 2)))
    centre = rng.uniform([0, 0], [size[1], size[0]], (count, 2))
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], axis=1).clip(0, [size[1], size[0]] * 2)
    return GroundTruth(boxes, np.zeros(count, dtype=int), np.zeros(count, dtype=int), np.array([size], dtype=float))


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("levels", [[3, 4, 5, 6, 7], [2, 3, 4]])
def test_best_overlaps_equal_the_maximum_over_all_anchors(levels, offset):
    anchors = ["MODEL.ANCHOR_GENERATOR.OFFSET", offset, "MODEL.ANCHOR_GENERATOR.SCALE", 2.0]
    cfg = tiny_cfg("MODEL.RETINANET.LEVELS", levels, *anchors)
    truth = random_truth(300)
    strides = [2**level for level in levels]
    generator = build_anchor_generator(cfg, [ShapeSpec(channels=1, stride=stride) for stride in strides])
    anchors = Boxes.cat(generator([torch.zeros(1, 1, -(-96 // stride), -(-128 // stride)) for stride in strides]))
    want = pairwise_iou(Boxes(torch.from_numpy(truth.boxes).float()), anchors).amax(dim=1)
    got = AnchorLayout.from_config(cfg).best_overlaps(truth)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


def test_boxes_are_resized_with_their_image():
    box, crowd = [10, 20, 30, 40], [0, 0, 640, 480]
    found = [{"bbox": box, "category_id": 1}, {"bbox": crowd, "category_id": 0, "iscrowd": 1}]
    records = [{"height": 480, "width": 640, "annotations": found}, {"height": 100, "width": 400, "annotations": []}]
    truth = ground_truth(records, shortest=240, longest=400)
    assert truth.boxes.tolist() == [[5, 10, 15, 20]] and truth.classes.tolist() == [1]
    assert truth.sizes.tolist() == [[240, 320], [100, 400]]


def test_config_with_explicit_sizes_is_refused():
    with pytest.raises(ValueError, match="SIZES lists sizes"):
        AnchorLayout.from_config(tiny_cfg("MODEL.ANCHOR_GENERATOR.SIZES", [[32.0]] * 5))
