"""Matching by hand, and against a plain implementation of the rule."""

import pytest
import torch

from detectron2.structures import Boxes, pairwise_iou

from retina_plugin.modeling.assignment import MaxIoUAssigner

K = 5


def assigner(low_quality=False):
    return MaxIoUAssigner(thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=low_quality)


def test_thresholds_worked_by_hand():
    # Ground truth 10x10 = 100. An anchor 10 wide and h <= 10 high inside it has IoU h / 10.
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.5], [0, 0, 10, 4], [0, 0, 10, 3.9], [50, 50, 60, 60]])
    labels, matched = assigner()(anchors, torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([2]), K)
    # 1.0 and 0.5 foreground, 0.45 and 0.4 between the thresholds, 0.39 and 0 background
    assert labels.tolist() == [2, 2, -1, -1, K, K]
    assert matched[:2].tolist() == [0, 0]


def test_low_quality_matches_give_every_box_an_anchor():
    anchors = torch.tensor([[0.0, 0, 10, 3], [0, 0, 10, 2]])
    gt, classes = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([4])
    assert assigner(low_quality=False)(anchors, gt, classes, K)[0].tolist() == [K, K]
    assert assigner(low_quality=True)(anchors, gt, classes, K)[0].tolist() == [4, K]


def test_no_ground_truth_makes_all_background():
    labels, matched = assigner(True)(torch.rand(7, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), K)
    assert labels.tolist() == [K] * 7 and matched.shape == (7,)


@pytest.mark.parametrize("low_quality", [False, True])
def test_random_boxes_follow_the_rule(low_quality):
    def random_boxes(n):
        corner = torch.rand(n, 2) * 80
        return torch.cat([corner, corner + 5 + torch.rand(n, 2) * 40], dim=1)

    anchors, gt, classes = random_boxes(400), random_boxes(12), torch.randint(0, K, (12,))
    labels, matched = assigner(low_quality)(anchors, gt, classes, K)
    iou = pairwise_iou(Boxes(gt), Boxes(anchors))
    for r in range(400):
        best = iou[:, r].max().item()
        rescued = low_quality and any(iou[m, r] == iou[m].max() for m in range(12))
        if best >= 0.5 or rescued:
            assert labels[r] == classes[iou[:, r].argmax()] and matched[r] == iou[:, r].argmax()
        else:
            assert labels[r] == (-1 if best >= 0.4 else K)


def test_the_order_of_the_boxes_does_not_matter():
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 9]])
    gt, classes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 31]]), torch.tensor([1, 3])
    a, _ = assigner(True)(anchors, gt, classes, K)
    b, _ = assigner(True)(anchors, gt.flip(0), classes.flip(0), K)
    assert a.tolist() == b.tolist() == [1, 3, 1]


@pytest.mark.parametrize("thresholds, labels", [([0.5, 0.4], [0, -1, 1]), ([0.4, 0.5], [0, 1])])
def test_thresholds_and_labels_that_do_not_fit_are_refused(thresholds, labels):
    with pytest.raises(ValueError, match="IOU_THRESHOLDS"):
        MaxIoUAssigner(thresholds=thresholds, labels=labels, allow_low_quality_matches=True)
