"""The dense part of the classification losses: chunks, memory layouts, dtypes, and gradients."""

import pytest
import torch
from torch.nn import functional

from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K

from retina_plugin.modeling.losses.classification import FocalLoss, sigmoid_focal_loss_sum
from retina_plugin.modeling.losses.dense import (
    ClassTargets,
    cross_entropy_terms,
    dense_loss_sum,
    focal_terms,
    foreground_logits,
    loss_of_each_anchor,
    softplus,
)


def test_softplus_is_accurate_over_the_whole_range():
    x = torch.cat([torch.linspace(-110, 110, 5001), torch.randn(2000)])
    want = functional.softplus(x.double(), threshold=1e9)
    torch.testing.assert_close(softplus(x).double(), want, rtol=3e-7, atol=1e-44)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_result_does_not_depend_on_the_chunk_size(dtype):
    logits, labels = (torch.randn(3, 101, 7) * 4).to(dtype), torch.randint(-1, 8, (3, 101))
    results = []
    for chunk in (1, 50, 10**6):
        x = logits.clone().requires_grad_()
        loss = dense_loss_sum([x], labels, lambda y: focal_terms(y, 2.0), weight_pos=0.25, weight_neg=0.75, chunk=chunk)
        loss.backward()
        results.append((loss, x.grad))
    for loss, grad in results[1:]:
        torch.testing.assert_close(loss, results[0][0], rtol=1e-5, atol=0)
        torch.testing.assert_close(grad, results[0][1], rtol=1e-5, atol=1e-7)
        assert grad.dtype == dtype and loss.dtype == torch.float32


def test_a_second_pass_through_a_retained_graph_gives_the_same_gradient():
    logits, labels = torch.randn(20, 4, requires_grad=True), torch.randint(-1, 5, (20,))
    loss = sigmoid_focal_loss_sum(logits, labels, alpha=0.25, gamma=2.0)
    first, second = (torch.autograd.grad(scale * loss, logits, retain_graph=True)[0].clone() for scale in (1, 2))
    torch.testing.assert_close(second, 2 * first)


def test_channels_last_logits_are_not_copied_and_their_gradient_keeps_the_layout():
    written = torch.randn(2, 9 * 5, 4, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    flat = permute_to_N_HWA_K(written, 5)
    assert flat.data_ptr() == written.data_ptr()
    labels = torch.randint(-1, 6, (2, 4 * 6 * 9))
    FocalLoss(alpha=0.25, gamma=2.0)([flat], ClassTargets(labels=labels)).backward()
    assert written.grad.is_contiguous(memory_format=torch.channels_last)


def test_small_gradients_of_half_precision_logits_survive_until_they_are_scaled():
    # 0.75 · p² (2 · (1 - p) · log(1 + e^x) + p) at x = -6.5 is 7.6e-9: 0 in fp16, whose smallest number is 6e-8,
    # but 5e-4 after scaling by 2^16.
    logits = torch.full((4, 3), -6.5, dtype=torch.float16, requires_grad=True)
    (sigmoid_focal_loss_sum(logits, torch.full((4,), 3), alpha=0.25, gamma=2.0) * 2**16).backward()
    exact = torch.full((4, 3), -6.5, dtype=torch.float64, requires_grad=True)
    (sigmoid_focal_loss_sum(exact, torch.full((4,), 3), alpha=0.25, gamma=2.0) * 2**16).backward()
    assert logits.grad.dtype == torch.float16
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-3, atol=0)


def test_the_loss_of_each_anchor_is_summed_over_its_classes():
    logits, labels = [torch.randn(2, n, 4) for n in (7, 5)], torch.randint(-1, 5, (2, 12))
    got = loss_of_each_anchor(logits, labels, cross_entropy_terms)
    everything = torch.cat(logits, dim=1)
    for i in range(2):
        for r in range(12):
            target = functional.one_hot(labels[i, r].clamp(min=0), 5)[:4].float()
            want = functional.binary_cross_entropy_with_logits(everything[i, r], target, reduction="sum")
            torch.testing.assert_close(got[i, r], want if labels[i, r] >= 0 else torch.tensor(0.0))


def test_foreground_logits_come_from_their_level_with_a_gradient():
    logits, labels = [torch.randn(2, n, 4, requires_grad=True) for n in (7, 5)], torch.full((2, 12), 4)
    labels[0, 2], labels[0, 6], labels[1, 7], labels[1, 11] = 3, 0, 1, 2
    foreground = (labels < 4).nonzero(as_tuple=True)
    x = foreground_logits(logits, ClassTargets(labels=labels, foreground=foreground))
    finer, coarser = logits
    assert torch.equal(x, torch.stack([finer[0, 2, 3], finer[0, 6, 0], coarser[1, 0, 1], coarser[1, 4, 2]]))
    x.sum().backward()
    assert logits[0].grad.sum() == 2 and logits[1].grad[1, 4, 2] == 1
