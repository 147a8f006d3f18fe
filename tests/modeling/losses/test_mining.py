"""Mined and harmonised losses and their gradients, compared with plain implementations."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.ops import nms

from retina_plugin.modeling.losses.dense import ClassTargets
from retina_plugin.modeling.losses.mining import GHMLoss, OHEM1To3Loss, OHEMLoss, SSDHardNegativeLoss

K = 4


def batch(seed=0, foreground=6):
    """Return logits of two levels, targets with ignored anchors, and overlapping boxes; image 1 has no object."""
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(2, n, K, generator=generator).mul_(2).requires_grad_() for n in (60, 30)]
    labels = torch.full((2, 90), K)
    anchors = torch.randperm(90, generator=generator)[:foreground]
    labels[0, anchors] = torch.randint(0, K, (foreground,), generator=generator)
    labels[:, ::9] = -1
    corner = torch.rand(2, 90, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + 10 + torch.rand(2, 90, 2, generator=generator) * 20], dim=2)
    index = ((labels >= 0) & (labels < K)).nonzero(as_tuple=True)
    targets = ClassTargets(labels=labels, foreground=index, gt_boxes=boxes[index], decode=lambda i, a: boxes[i, a])
    return logits, targets, boxes


def cross_entropy(logits, labels):
    """Return the loss of each anchor, (N, R), computed with a one-hot target."""
    target = functional.one_hot(labels.clamp(min=0), K + 1)[..., :K].to(logits)
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(dim=-1) * (labels >= 0)


def check(got, logits, want):
    torch.testing.assert_close(got, want, rtol=1e-5, atol=0)
    for a, b in zip(torch.autograd.grad(got, logits), torch.autograd.grad(want, logits), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("size, thresh", [(5, 0.5), (20, 0.3), (1000, 0.7), (7, 1.0)])
def test_ohem_takes_the_hardest_that_survive_nms(size, thresh):
    logits, targets, boxes = batch()
    everything = torch.cat(logits, dim=1)
    losses = cross_entropy(everything, targets.labels)
    chosen = []
    for i in range(2):
        valid = (targets.labels[i] >= 0).nonzero().squeeze(1)
        order = valid[losses[i, valid].argsort(descending=True)]
        kept = order[nms(boxes[i, order], losses[i, order].detach(), thresh)] if thresh < 1 else order
        chosen += [(i, int(a)) for a in kept[:size]]
    want = sum(losses[i, a] for i, a in chosen) / len(chosen)
    check(OHEMLoss(ohem_batch_size=size, ohem_nms_thresh=thresh)(logits, targets), logits, want)


def test_ssd_takes_all_foreground_and_three_times_as_much_hard_background():
    logits, targets, _ = batch()
    losses = cross_entropy(torch.cat(logits, dim=1), targets.labels)
    want = count = 0
    for i in range(2):
        foreground = (targets.labels[i] >= 0) & (targets.labels[i] < K)
        hard = losses[i][targets.labels[i] == K].sort(descending=True).values[: 3 * max(1, int(foreground.sum()))]
        want = want + losses[i][foreground].sum() + hard.sum()
        count += int(foreground.sum()) + len(hard)
    num_foreground = int(((targets.labels >= 0) & (targets.labels < K)).sum())
    assert count == 4 * num_foreground + 3, "the image without objects contributes three"
    check(SSDHardNegativeLoss()(logits, targets), logits, want / count)


def one_to_three(losses, labels, boxes, size, thresh):
    """Apply the rule of the paper to one image: NMS over all anchors, then a quarter and three quarters."""
    valid = (labels >= 0).nonzero().squeeze(1)
    order = valid[losses[valid].argsort(descending=True)]
    kept = order[nms(boxes[order], losses[order].detach(), thresh)] if thresh < 1 else order
    positives = [int(a) for a in kept if labels[a] < K][: size // 4]
    return positives + [int(a) for a in kept if labels[a] == K][: 3 * max(1, len(positives))]


ONE_TO_THREE = [
    *[(4, 0.5, 6), (8, 0.5, 6), (8, 0.3, 20), (20, 0.5, 20)],
    *[(20, 0.9, 20), (40, 1.0, 20), (1000, 0.7, 30), (12, 0.6, 0)],
]


@pytest.mark.parametrize("size, thresh, foreground", ONE_TO_THREE)
def test_one_to_three_selects_its_minibatch_after_nms(size, thresh, foreground):
    logits, targets, boxes = batch(foreground=foreground)
    losses = cross_entropy(torch.cat(logits, dim=1), targets.labels)
    chosen = [(i, a) for i in range(2) for a in one_to_three(losses[i], targets.labels[i], boxes[i], size, thresh)]
    loss = OHEM1To3Loss(ohem_batch_size=size, ohem_nms_thresh=thresh)
    for i in range(2):
        own = loss.choose(losses[i].detach(), i, targets)
        positives = int((targets.labels[i, own] < K).sum())
        assert sorted(own.tolist()) == sorted(a for image, a in chosen if image == i)
        assert positives <= size // 4 and len(own) - positives <= 3 * max(1, positives) and len(own) <= size
    check(loss(logits, targets), logits, sum(losses[i, a] for i, a in chosen) / len(chosen))


def test_one_to_three_depends_on_batch_size_and_nms_threshold():
    logits, targets, _ = batch(foreground=30)

    def value(size, thresh):
        return float(OHEM1To3Loss(ohem_batch_size=size, ohem_nms_thresh=thresh)(logits, targets).detach())

    assert len({value(size, 0.5) for size in (4, 8, 16)}) == 3
    assert len({value(16, thresh) for thresh in (0.2, 0.5, 1.0)}) == 3


def test_one_to_three_is_zero_if_all_anchors_are_ignored():
    logits, targets, _ = batch(foreground=0)
    targets.labels.fill_(-1)
    assert OHEM1To3Loss(ohem_batch_size=8, ohem_nms_thresh=0.5)(logits, targets) == 0


@pytest.mark.parametrize("bins", [1, 10, 30])
def test_ghm_weights_each_logit_by_the_count_of_its_bin(bins):
    logits, targets, _ = batch()
    x = torch.cat(logits, dim=1)
    valid = targets.labels >= 0
    target = functional.one_hot(targets.labels.clamp(min=0), K + 1)[..., :K].to(x)[valid]
    x = x[valid]
    norm = (x.detach().sigmoid() - target).abs().numpy()
    which = np.minimum((norm * bins).astype(int), bins - 1)
    counts = np.bincount(which.ravel(), minlength=bins)
    weights = torch.tensor(1 / counts[which] / (counts > 0).sum(), dtype=torch.float32)
    want = functional.binary_cross_entropy_with_logits(x, target, weight=weights, reduction="sum")
    check(GHMLoss(ghm_bins=bins)(logits, targets), logits, want)


def test_invalid_options_are_refused():
    with pytest.raises(ValueError, match="OHEM_BATCH_SIZE"):
        OHEMLoss(ohem_batch_size=0, ohem_nms_thresh=0.7)
    with pytest.raises(ValueError, match="OHEM_BATCH_SIZE must be at least 4"):
        OHEM1To3Loss(ohem_batch_size=3, ohem_nms_thresh=0.7)
    with pytest.raises(ValueError, match="GHM_BINS"):
        GHMLoss(ghm_bins=0)
