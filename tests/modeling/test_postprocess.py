"""Decoding computed by hand, thresholds, and limits on the number of detections."""

import math

import pytest
import torch
from torchvision.ops import nms

from detectron2.modeling.box_regression import Box2BoxTransform

from retina_plugin.modeling import postprocess
from retina_plugin.modeling.postprocess import best_logits, classwise_nms, detect, soft_nms

TRANSFORM = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
ANCHORS = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [50, 0, 60, 10]])
OPTIONS = {"transform": TRANSFORM, "score_thresh": 0.05, "topk": 1000, "nms_thresh": 0.5, "max_detections": 100}


def logit(p):
    return math.log(p / (1 - p))


def run(logits, deltas=None, **changes):
    deltas = torch.zeros(3, 4) if deltas is None else deltas
    return detect([ANCHORS], [torch.tensor(logits)], [deltas], (64, 64), **{**OPTIONS, **changes})


def test_decoding_worked_by_hand():
    # Anchor (20, 20, 40, 40): centre 30, size 20. dx = 0.5 moves it by 10, dw = log 2 doubles its width:
    # centre (40, 30), 40 x 20 -> (20, 20, 60, 40).
    deltas = torch.tensor([[0.0, 0, 0, 0], [0.5, 0, math.log(2), 0], [0, 0, 0, 0]])
    logits = [[logit(0.01), logit(0.01)], [logit(0.01), logit(0.9)], [logit(0.3), logit(0.04)]]
    found = run(logits, deltas)
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor([[20.0, 20, 60, 40], [50, 0, 60, 10]]))
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.3]))
    assert found.pred_classes.tolist() == [1, 0]


def test_decoding_inverts_encoding():
    boxes = torch.tensor([[3.0, 1, 14, 9], [15, 18, 52, 33], [49, 0, 63, 20]])
    found = run([[3.0], [2.0], [1.0]], TRANSFORM.get_deltas(ANCHORS, boxes))
    torch.testing.assert_close(found.pred_boxes.tensor, boxes)


def random_predictions(num_anchors=3000, num_classes=20):
    corner = torch.rand(num_anchors, 2) * 400
    anchors = torch.cat([corner, corner + 10 + torch.rand(num_anchors, 2) * 100], dim=1)
    return anchors, torch.randn(num_anchors, num_classes) * 2 - 2, torch.randn(num_anchors, 4) * 0.1


def plainly(anchors, logits, deltas, max_detections):
    """Apply the rule directly: sigmoid of all, threshold, top 1000, decode all, NMS for one class at a time."""
    scores, order = logits.flatten().sort(descending=True)  # by logit: scores can be equal where logits are not
    scores = scores.sigmoid()
    order = order[scores > 0.05][:1000]
    boxes = TRANSFORM.apply_deltas(deltas, anchors)[order // logits.shape[1]]
    scores, classes = scores[: len(order)], order % logits.shape[1]
    kept = []
    for k in classes.unique():
        mine = (classes == k).nonzero().squeeze(1)
        kept += mine[nms(boxes[mine], scores[mine], 0.5)].tolist()
    kept = sorted(kept)[:max_detections]
    return boxes[kept], scores[kept], classes[kept]


@pytest.mark.parametrize("max_detections", [5, 100, 700])
def test_shortcuts_do_not_change_the_detections(max_detections):
    anchors, logits, deltas = random_predictions()
    options = {**OPTIONS, "max_detections": max_detections}
    found = detect([anchors], [logits], [deltas], (500, 500), **options)
    boxes, scores, classes = plainly(anchors, logits, deltas, max_detections)
    assert found.pred_classes.tolist() == classes.tolist()
    torch.testing.assert_close(found.scores, scores)
    torch.testing.assert_close(found.pred_boxes.tensor, boxes)


def test_candidates_equal_those_of_the_gpu_path():
    _, logits, _ = random_predictions()
    values, positions = best_logits(logits, floor=1.0, topk=500)
    want, order = logits.flatten().topk(500)  # what a GPU does; the floor is applied afterwards
    assert torch.equal(values, want[want > 1.0]) and torch.equal(positions, order[want > 1.0])


def test_the_threshold_is_not_rounded_to_the_dtype_of_the_logits():
    # sigmoid(-2.9375) = 0.0503 passes 0.05, whose logit -2.9444 would be -2.9375 in bf16.
    logits = torch.full((3, 2), -2.9375, dtype=torch.bfloat16)
    floor = math.log(0.05 / 0.95)
    assert len(best_logits(logits, floor=floor, topk=10)[0]) == 6


def test_nan_logits_are_not_detected_and_do_not_affect_others():
    found = run([[float("nan"), float("nan")], [2.0, -9.0], [-9.0, -9.0]])
    assert found.scores.tolist() == pytest.approx([torch.tensor(2.0).sigmoid().item()])


def test_more_candidates_are_examined_if_too_few_survive(monkeypatch):
    # 60 copies of one box score highest, so the first 4 x 2 candidates yield only one detection.
    anchors = torch.tensor([[0.0, 0, 10, 10]] * 60 + [[20.0, 20, 30, 30]])
    logits = torch.cat([torch.linspace(4, 3, 60), torch.tensor([1.0])]).unsqueeze(1)
    calls = []

    def counted(boxes, *rest):
        calls.append(len(boxes))
        return classwise_nms(boxes, *rest)

    monkeypatch.setattr(postprocess, "classwise_nms", counted)
    found = detect([anchors], [logits], [torch.zeros(61, 4)], (64, 64), **{**OPTIONS, "max_detections": 2})
    torch.testing.assert_close(found.scores, torch.tensor([4.0, 1.0]).sigmoid())
    assert calls == [8, 32, 61]


def test_nms_drops_the_lower_score_within_a_class_only():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]])
    logits = torch.tensor([[2.0, -9.0], [1.0, -9.0], [-9.0, 1.5]])
    found = detect([anchors], [logits], [torch.zeros(3, 4)], (64, 64), **OPTIONS)
    assert found.pred_classes.tolist() == [0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([2.0, 1.5]).sigmoid())


def test_limits_on_candidates_and_detections():
    logits = [[2.0, 1.0], [1.5, 0.5], [0.0, 3.0]]
    assert len(run(logits)) == 6
    torch.testing.assert_close(run(logits, topk=2).scores, torch.tensor([3.0, 2.0]).sigmoid())
    assert len(run(logits, max_detections=4)) == 4
    assert run(logits, score_thresh=0.9).pred_classes.tolist() == [1]


def test_nothing_above_the_threshold_gives_empty_instances():
    found = run([[-9.0, -9.0]] * 3)
    assert len(found) == 0 and found.pred_boxes.tensor.shape == (0, 4) and found.scores.shape == (0,)


def test_a_threshold_of_zero_keeps_everything():
    assert len(run([[-50.0, -50.0]] * 3, score_thresh=0.0)) == 6


def test_half_precision_predictions_are_decoded_in_float32():
    logits, deltas = torch.tensor([[2.0], [1.0], [0.5]]), torch.zeros(3, 4)
    found = detect([ANCHORS], [logits.bfloat16()], [deltas.bfloat16()], (64, 64), **OPTIONS)
    assert found.pred_boxes.tensor.dtype == found.scores.dtype == torch.float32


OVERLAPPING = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 6]])  # IoU 0.8, 0.6 with the first
SCORES = torch.tensor([0.9, 0.8, 0.7])


def overlapping(classes, **changes):
    logits = torch.full((3, 2), -20.0)
    logits[torch.arange(3), torch.tensor(classes)] = torch.logit(SCORES)
    return detect([OVERLAPPING], [logits], [torch.zeros(3, 4)], (64, 64), **{**OPTIONS, **changes})


def test_class_agnostic_nms_drops_boxes_of_other_classes():
    assert len(overlapping([0, 1, 0])) == 2 and len(overlapping([0, 1, 0], class_agnostic=True)) == 1
    assert overlapping([1, 0, 0], class_agnostic=True).pred_classes.tolist() == [1]


def test_linear_soft_nms_worked_by_hand():
    """0.8 (1 - 0.8) = 0.16 and 0.7 (1 - 0.6) = 0.28; then the second of these overlaps the first by 6/8 = 0.75."""
    found = overlapping([0, 0, 0], soft="linear", nms_thresh=0.5, score_thresh=0.01)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.28, 0.16 * 0.25]))
    assert found.pred_boxes.tensor[1].tolist() == [0, 0, 10, 6]


def test_gaussian_soft_nms_worked_by_hand():
    found = overlapping([0, 0, 0], soft="gaussian", soft_sigma=0.5, score_thresh=0.01)
    third = 0.7 * math.exp(-(0.6**2) / 0.5)
    second = 0.8 * math.exp(-(0.8**2) / 0.5) * math.exp(-(0.75**2) / 0.5)
    torch.testing.assert_close(found.scores, torch.tensor([0.9, third, second]))


def test_soft_nms_leaves_boxes_of_one_view_alone():
    options = {"kind": "gaussian", "nms_thresh": 0.5, "sigma": 0.5, "score_thresh": 0.01, "most": 10}
    views = torch.tensor([0, 0, 1])
    keep, scores = soft_nms(OVERLAPPING, SCORES, torch.zeros(3), **options, views=views)
    third = 0.7 * math.exp(-(0.6**2) / 0.5) * math.exp(-(0.75**2) / 0.5)
    assert keep.tolist() == [0, 1, 2]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.8, third]))


@pytest.mark.parametrize("soft", ["linear", "gaussian"])
def test_soft_nms_keeps_other_classes_the_threshold_and_the_limit(soft):
    torch.testing.assert_close(overlapping([0, 1, 1], soft=soft).scores[:2], torch.tensor([0.9, 0.8]))
    assert len(overlapping([0, 0, 0], soft=soft, score_thresh=0.5)) == 1
    assert len(overlapping([0, 1, 0], soft=soft, max_detections=2)) == 2
    assert len(overlapping([0, 0, 0], soft=soft, score_thresh=0.95)) == 0
