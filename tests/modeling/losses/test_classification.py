"""The focal loss by hand, compared with fvcore, and where floating-point arithmetic is difficult."""

import math
import pickle

import pytest
import torch
from fvcore.nn import sigmoid_focal_loss
from torch.nn import functional

from retina_plugin.modeling.losses.classification import (
    CLS_LOSS_REGISTRY,
    BalancedCrossEntropyLoss,
    CrossEntropyLoss,
    FocalLoss,
    FocalStarLoss,
    sigmoid_focal_loss_sum,
)
from retina_plugin.modeling.losses.dense import ClassTargets


def logit(p):
    return math.log(p / (1 - p))


@pytest.mark.parametrize(
    "foreground, background, want",
    [(0.8, 0.01, 0.53339055325), (0.9, 0.01, 0.4822380308), (0.7, 0.01, 0.59138250023), (0.8, 0.001, 0.14036119041)],
)
def test_imbalance_example_one_foreground_among_a_hundred_backgrounds(foreground, background, want):
    # Cross entropy in base-10 logarithms: -log10(p) - 100 log10(1 - q);
    # for p = 0.8, q = 0.01: 0.09691001 + 100 · 0.00436481 = 0.53339055.
    logits = torch.tensor([logit(foreground)] + [logit(background)] * 100, dtype=torch.float64).unsqueeze(-1)
    labels = torch.tensor([0] + [1] * 100)
    got = sigmoid_focal_loss_sum(logits, labels, alpha=-1, gamma=0.0) / math.log(10)
    assert got.item() == pytest.approx(want, abs=1e-10)
    # The hundred easy backgrounds make up 82 % of it at p = 0.8, q = 0.01; the focal loss reverses the ratio.
    if (foreground, background) == (0.8, 0.01):
        easy = sigmoid_focal_loss_sum(logits[1:], labels[1:], alpha=-1, gamma=0.0) / math.log(10)
        assert (easy / got).item() == pytest.approx(0.8183, abs=1e-4)
        both = (logits, labels), (logits[1:], labels[1:])
        focal = [sigmoid_focal_loss_sum(x, y, alpha=-1, gamma=2.0).item() for x, y in both]
        # (1 - 0.8)² · 0.22314 = 0.0089257 of foreground, 100 · 0.01² · 0.01005 = 0.0001005 of background
        assert focal[0] == pytest.approx(0.0090262, abs=1e-7) and focal[1] == pytest.approx(0.0001005, abs=1e-7)


def test_focal_loss_worked_by_hand():
    # K = 2, one anchor of class 1, logits (0, log 3): p = (0.5, 0.75).
    # class 0 is background: 0.75 · 0.5² · -log(0.5)  = 0.1299651
    # class 1 is foreground: 0.25 · 0.25² · -log(0.75) = 0.0044950
    got = sigmoid_focal_loss_sum(torch.tensor([[0.0, math.log(3)]]), torch.tensor([1]), alpha=0.25, gamma=2.0)
    assert got.item() == pytest.approx(0.1299651 + 0.0044950, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [-1.0, 0.25, 0.75])
def test_values_and_gradients_equal_fvcores(alpha, gamma):
    num_classes = 7
    logits = (torch.randn(2, 50, num_classes) * 4).requires_grad_()
    labels = torch.randint(-1, num_classes + 1, (2, 50))
    got = sigmoid_focal_loss_sum(logits, labels, alpha=alpha, gamma=gamma)
    (grad,) = torch.autograd.grad(got * 3, logits)
    target = functional.one_hot(labels.clamp(min=0), num_classes + 1)[..., :-1].to(logits)
    valid = labels >= 0
    want = sigmoid_focal_loss(logits[valid], target[valid], alpha=alpha, gamma=gamma, reduction="sum")
    (want_grad,) = torch.autograd.grad(want * 3, logits)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0)
    torch.testing.assert_close(grad, want_grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_gradient_matches_the_value(gamma):
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, -1, 3])
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss_sum(x, labels, alpha=0.25, gamma=gamma), (logits,))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_give_finite_and_correct_losses(dtype, gamma):
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0], [100.0, -100.0]], dtype=dtype, requires_grad=True)
    labels = torch.tensor([0, 0, -1])  # correct, wrong in both classes, ignored
    loss = sigmoid_focal_loss_sum(logits, labels, alpha=0.25, gamma=gamma)
    loss.backward()
    # the second anchor: 0.25 · 100 as foreground, 0.75 · 100 as background
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(100.0, rel=1e-4)
    torch.testing.assert_close(logits.grad.float(), torch.tensor([[0, 0], [-0.25, 0.75], [0, 0]]), rtol=1e-2, atol=1e-6)


def test_levels_are_summed_and_labels_are_split_between_them():
    a, b = torch.randn(2, 6, 3), torch.randn(2, 4, 3)
    labels = torch.randint(-1, 4, (2, 10))
    loss = FocalLoss(alpha=0.25, gamma=2.0)
    targets = ClassTargets(labels=labels)
    torch.testing.assert_close(loss([a, b], targets), loss([torch.cat([a, b], dim=1)], targets))


def test_ignored_anchors_alone_cost_nothing():
    assert sigmoid_focal_loss_sum(torch.randn(4, 3), torch.full((4,), -1), alpha=0.25, gamma=2.0) == 0


@pytest.mark.parametrize("alpha, gamma", [(1.5, 2.0), (0.25, -1.0)])
def test_invalid_parameters_are_refused(alpha, gamma):
    with pytest.raises(ValueError, match="FOCAL_LOSS"):
        CLS_LOSS_REGISTRY.get("focal")(alpha=alpha, gamma=gamma)


@pytest.mark.slow
def test_the_compiled_loss_gives_the_same_result():
    logits, labels = [torch.randn(2, n, 6) * 3 for n in (40, 12)], torch.randint(-1, 7, (2, 52))
    compiled = FocalLoss(alpha=0.25, gamma=2.0)
    compiled.compile()
    results = []
    for loss in (FocalLoss(alpha=0.25, gamma=2.0), compiled):
        xs = [x.clone().requires_grad_() for x in logits]
        value = loss(xs, ClassTargets(labels=labels))
        value.backward()
        results.append([value, *(x.grad for x in xs)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def one_hot(labels, num_classes):
    hot = functional.one_hot(labels.clamp(min=0), num_classes + 1)[..., :-1].float()
    return hot * (labels >= 0).unsqueeze(-1)


@pytest.mark.parametrize("alpha", [-1.0, 0.25, 0.9])
def test_cross_entropies_equal_pytorchs(alpha):
    logits, labels = (torch.randn(2, 30, 5) * 3).requires_grad_(), torch.randint(-1, 6, (2, 30))
    target = one_hot(labels, 5)
    balance = torch.where(target > 0, alpha, 1 - alpha) if alpha >= 0 else torch.ones_like(target)
    weight = balance * (labels >= 0).unsqueeze(-1)
    want = functional.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")
    losses = [BalancedCrossEntropyLoss(alpha=alpha)] + ([CrossEntropyLoss()] if alpha < 0 else [])
    for loss in losses:
        got = loss([logits], ClassTargets(labels=labels))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=0)
        a, b = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (got, want))
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma, beta", [(2.0, 1.0), (4.0, 0.0), (1.0, 0.0)])
def test_focal_star_matches_the_formula_of_the_appendix(gamma, beta):
    logits, labels = (torch.randn(2, 30, 5) * 3).requires_grad_(), torch.randint(-1, 6, (2, 30))
    x_t = torch.where(one_hot(labels, 5) > 0, logits, -logits)  # equation: x_t = y x
    want = (-torch.log(torch.sigmoid(gamma * x_t + beta)) / gamma)[labels >= 0].sum()
    got = FocalStarLoss(focal_star_gamma=gamma, focal_star_beta=beta)([logits], ClassTargets(labels=labels))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0)
    a, b = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (got, want))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [100.0, -100.0])
def test_every_loss_that_depends_on_p_t_alone_is_finite_for_large_logits(size):
    focal_star = FocalStarLoss(focal_star_gamma=2.0, focal_star_beta=1.0)
    for loss in (FocalLoss(alpha=0.25, gamma=0.5), CrossEntropyLoss(), focal_star):
        logits = torch.full((1, 3, 2), size, requires_grad=True)
        value = loss([logits], ClassTargets(labels=torch.tensor([[0, 2, -1]])))
        value.backward()
        assert value.isfinite() and logits.grad.isfinite().all()


def test_a_loss_can_be_pickled():
    loss = pickle.loads(pickle.dumps(FocalLoss(alpha=0.25, gamma=2.0)))
    assert loss([torch.zeros(1, 1, 1)], ClassTargets(labels=torch.zeros(1, 1, dtype=torch.int64))) > 0
