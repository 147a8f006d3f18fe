"""Losses with soft targets and their gradients, compared with plain versions of the formulas."""

import dataclasses

import pytest
import torch
from torch.nn import functional
from torchvision.ops import box_iou

from retina_plugin.modeling.losses.dense import ClassTargets
from retina_plugin.modeling.losses.quality import QualityFocalLoss, VarifocalLoss, box_quality

K = 3


def batch(foreground=5):
    logits = [(torch.randn(2, n, K) * 2).requires_grad_() for n in (40, 20)]
    labels = torch.full((2, 60), K)
    labels[0, torch.randperm(60)[:foreground]] = torch.randint(0, K, (foreground,))
    labels[:, ::7] = -1
    corner = torch.rand(2, 60, 2) * 20
    boxes = torch.cat([corner, corner + 5 + torch.rand(2, 60, 2) * 20], dim=2)
    index = ((labels >= 0) & (labels < K)).nonzero(as_tuple=True)
    gt_boxes = boxes[index] + torch.randn(len(index[0]), 4)
    return logits, ClassTargets(labels=labels, foreground=index, gt_boxes=gt_boxes, decode=lambda i, a: boxes[i, a])


def plain(logits, targets):
    """Return the logits and soft targets of all anchors that are not ignored, and which logits are foreground."""
    x = torch.cat(logits, dim=1)
    soft = torch.zeros_like(x)
    soft[(*targets.foreground, targets.labels[targets.foreground])] = box_quality(targets)
    positive = torch.zeros_like(x, dtype=torch.bool)
    positive[(*targets.foreground, targets.labels[targets.foreground])] = True
    valid = targets.labels >= 0
    return x[valid], soft[valid], positive[valid]


def check(got, want, logits):
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0)
    for a, b in zip(torch.autograd.grad(got, logits), torch.autograd.grad(want, logits), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_quality_is_the_iou_with_the_matched_box():
    _, targets = batch()
    want = box_iou(targets.decode(*targets.foreground), targets.gt_boxes).diagonal()
    torch.testing.assert_close(box_quality(targets), want)


@pytest.mark.parametrize("foreground", [0, 5])
def test_quality_focal_loss_matches_its_formula(foreground):
    logits, targets = batch(foreground)
    x, y, _ = plain(logits, targets)
    want = ((y - x.sigmoid()).abs() ** 2 * functional.binary_cross_entropy_with_logits(x, y, reduction="none")).sum()
    check(QualityFocalLoss(quality_beta=2.0)(logits, targets), want, logits)


@pytest.mark.parametrize("foreground", [0, 5])
def test_varifocal_loss_matches_its_formula(foreground):
    logits, targets = batch(foreground)
    x, q, positive = plain(logits, targets)
    weight = torch.where(positive, q, 0.75 * x.sigmoid() ** 2)
    want = (weight * functional.binary_cross_entropy_with_logits(x, q, reduction="none")).sum()
    check(VarifocalLoss(varifocal_alpha=0.75, varifocal_gamma=2.0)(logits, targets), want, logits)


def missing_boxes(logits, targets, shift):
    """Return the same targets, matched with boxes ``shift`` pixels away from the predicted ones."""
    predicted = targets.decode(*targets.foreground)
    return dataclasses.replace(targets, gt_boxes=predicted + shift)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("shift", [100.0, torch.tensor([100.0, 0.0, 100.0, 0.0])], ids=["far away", "next to it"])
def test_varifocal_foreground_without_overlap_costs_as_much_as_background(gamma, shift):
    logits, targets = batch()
    targets = missing_boxes(logits, targets, shift)
    assert box_quality(targets).max() == 0
    x = torch.cat(logits, dim=1)[targets.labels >= 0]
    # equation 2 with q = 0: -α p^γ log(1 - p), for all logits here
    want = (0.75 * x.sigmoid() ** gamma * functional.softplus(x)).sum()
    check(VarifocalLoss(varifocal_alpha=0.75, varifocal_gamma=gamma)(logits, targets), want, logits)


def test_the_varifocal_loss_at_the_limits_of_its_formula():
    loss = VarifocalLoss(varifocal_alpha=0.75, varifocal_gamma=0.5)
    x = torch.tensor([-200.0, 0.0, 200.0, -200.0, 0.0, 200.0], requires_grad=True)
    quality = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    got = loss.of_foreground(x, quality)
    # p = 0, 1/2, 1 with q = 0: 0, 0.75 · sqrt(0.5) · log 2, 0.75 · 200; with q = 1: 200, log 2, 0
    log2 = 0.6931472
    torch.testing.assert_close(got, torch.tensor([0.0, 0.75 * 0.5**0.5 * log2, 150.0, 200.0, log2, 0.0]))
    (gradient,) = torch.autograd.grad(got.sum(), x)
    assert gradient.isfinite().all() and gradient[1] > 0 > gradient[4]
