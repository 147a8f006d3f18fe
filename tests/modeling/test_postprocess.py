"""Decoding by hand, and the limits on what is kept."""

import math

import pytest
import torch

from detectron2.modeling.box_regression import Box2BoxTransform

from retina_plugin.modeling.postprocess import decode_level, detect

TRANSFORM = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
ANCHORS = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [50, 0, 60, 10]])


def logit(p):
    return math.log(p / (1 - p))


def run(logits, deltas=None, **changes):
    options = {"transform": TRANSFORM, "score_thresh": 0.05, "topk": 1000, "nms_thresh": 0.5, "max_detections": 100, **changes}
    logits = torch.tensor(logits)
    return detect([ANCHORS], [logits], [torch.zeros(3, 4) if deltas is None else deltas], (64, 64), **options)


def test_decoding_worked_by_hand():
    # anchor (20, 20, 40, 40): centre 30, size 20. dx = 0.5 moves it by 10, dw = log 2 doubles it:
    # centre (40, 30), 40 x 20 -> (20, 20, 60, 40).
    deltas = torch.tensor([[0.0, 0, 0, 0], [0.5, 0, math.log(2), 0], [0, 0, 0, 0]])
    logits = torch.tensor([[logit(0.01), logit(0.01)], [logit(0.01), logit(0.9)], [logit(0.3), logit(0.04)]])
    boxes, scores, classes = decode_level(ANCHORS, logits, deltas, transform=TRANSFORM, score_thresh=0.05, topk=10)
    torch.testing.assert_close(boxes, torch.tensor([[20.0, 20, 60, 40], [50, 0, 60, 10]]))
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.3]))
    assert classes.tolist() == [1, 0]


def test_decoding_inverts_encoding():
    boxes = torch.tensor([[3.0, 1, 14, 9], [15, 18, 52, 33], [49, 0, 63, 20]])
    logits = torch.tensor([[3.0], [2.0], [1.0]])
    got, _, _ = decode_level(ANCHORS, logits, TRANSFORM.get_deltas(ANCHORS, boxes), transform=TRANSFORM, score_thresh=0.05, topk=10)
    torch.testing.assert_close(got, boxes)


def test_nms_drops_the_lower_score_within_a_class_only():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]])
    logits = torch.tensor([[2.0, -9.0], [1.0, -9.0], [-9.0, 1.5]])
    options = {"transform": TRANSFORM, "score_thresh": 0.05, "topk": 10, "nms_thresh": 0.5, "max_detections": 10}
    found = detect([anchors], [logits], [torch.zeros(3, 4)], (64, 64), **options)
    assert found.pred_classes.tolist() == [0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([2.0, 1.5]).sigmoid())


def test_limits_on_candidates_and_detections():
    logits = [[2.0, 1.0], [1.5, 0.5], [0.0, 3.0]]
    assert len(run(logits)) == 6
    assert run(logits, topk=2).scores.tolist() == pytest.approx([torch.tensor(3.0).sigmoid().item(), torch.tensor(2.0).sigmoid().item()])
    assert len(run(logits, max_detections=4)) == 4
    assert run(logits, score_thresh=0.9).pred_classes.tolist() == [1]


def test_nothing_above_the_threshold():
    found = run([[-9.0, -9.0]] * 3)
    assert len(found) == 0 and found.pred_boxes.tensor.shape == (0, 4) and found.scores.shape == (0,)


def test_a_threshold_of_zero_keeps_everything():
    assert len(run([[-50.0, -50.0]] * 3, score_thresh=0.0)) == 6


def test_half_precision_predictions_are_decoded_in_float32():
    found = detect(
        [ANCHORS], [torch.tensor([[2.0], [1.0], [0.5]], dtype=torch.bfloat16)], [torch.zeros(3, 4, dtype=torch.bfloat16)], (64, 64),
        transform=TRANSFORM, score_thresh=0.05, topk=10, nms_thresh=0.5, max_detections=10,
    )  # fmt: skip
    assert found.pred_boxes.tensor.dtype == found.scores.dtype == torch.float32
