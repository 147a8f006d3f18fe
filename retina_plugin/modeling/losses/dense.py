"""The dense part of the classification losses: sums over all anchors and classes, from integer labels, not one-hot."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK_CPU, CHUNK_GPU = 2**17, 2**26
"""Logits processed at once: on a CPU as many as fit the caches, on a GPU enough for few kernel launches."""

Terms = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps logits whose target is 0 to their loss and its derivative, elementwise, in float32 or float64.

The loss of a logit x with target 1 must equal that of -x with target 0, which holds for every loss that depends on p_t
alone.
"""

Decode = Callable[[Tensor, Tensor], Tensor]
"""Maps image_idxs (Q,) and anchor_idxs (Q,) to the predicted boxes (Q, 4) of these anchors, XYXY pixels, detached."""


@dataclass(frozen=True)
class ClassTargets:
    """Targets of a batch for a classification loss; a loss that depends on p_t alone needs only ``labels``.

    Args:
        labels: (N, R) int64: -1 ignore, 0..K-1 class, K background.
        foreground: image_idxs (P,) and anchor_idxs (P,) of the anchors with a class, in the order of ``labels``.
        gt_boxes: (P, 4), the boxes that these anchors are matched with, XYXY pixels.
        decode: predicted boxes of any anchors, see ``Decode``.
    """

    labels: Tensor
    foreground: tuple[Tensor, Tensor] | None = None
    gt_boxes: Tensor | None = None
    decode: Decode | None = None

    def foreground_idxs(self) -> tuple[Tensor, Tensor]:
        """Return image_idxs (P,) and anchor_idxs (P,) of the foreground, which must be set."""
        assert self.foreground is not None, "these targets have no foreground"
        return self.foreground

    def matched_boxes(self) -> Tensor:
        """Return the boxes (P, 4) that the foreground is matched with, which must be set."""
        assert self.gt_boxes is not None, "these targets have no gt_boxes"
        return self.gt_boxes

    def decoded(self, image_idxs: Tensor, anchor_idxs: Tensor) -> Tensor:
        """Return the predicted boxes (Q, 4) of anchors given by image (Q,) and index (Q,); ``decode`` must be set."""
        assert self.decode is not None, "these targets have no decode"
        return self.decode(image_idxs, anchor_idxs)


def softplus(x: Tensor) -> Tensor:
    """Compute log(1 + e^x), elementwise for any shape such as (N, K), with a relative error below 2e-7.

    On a CPU this is max(x, 0) + 2 artanh(e / (2 + e)) with e = e^-|x|, because PyTorch's log1p alone takes three times
    as long there as this whole function.
    """
    if x.device.type != "cpu":
        return nn.functional.softplus(x)
    e = x.abs().neg_().exp_()
    return x.clamp(min=0).add_(e.div_(e + 2).atanh_(), alpha=2)


def cross_entropy_terms(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross entropy of background logits x (any shape), log(1 + e^x), and its derivative sigmoid(x)."""
    return softplus(x), x.sigmoid()


def focal_terms(x: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return the focal loss of background logits x (any shape), p^γ log(1 + e^x), p = sigmoid(x), and its derivative.

    Since dp/dx = p (1 - p) and d log(1 + e^x) / dx = p, the derivative is
    p^γ (γ (1 - p) log(1 + e^x) + p). It contains no power below γ, so γ < 1 is safe at p = 0.

    Source: Lin et al. 2017, equation 4.
    """
    p, log_loss = x.sigmoid(), softplus(x)
    modulator = p.pow(gamma)
    loss = modulator * log_loss
    return loss, torch.addcmul(log_loss, p, log_loss, value=-1).mul_(gamma).add_(p).mul_(modulator)


def chunk_rows(logits: Tensor, chunk: int | None = None) -> int:
    """Return how many rows of logits (R, K) to process at once: ``chunk`` logits, or what suits the device."""
    at_once = chunk or (CHUNK_CPU if logits.device.type == "cpu" else CHUNK_GPU)
    return max(1, at_once // max(1, logits.shape[-1]))


def _loss_and_grad(
    logits: Tensor, labels: Tensor, terms: Terms, weights: tuple[float, float], chunk: int | None
) -> tuple[Tensor, Tensor]:
    """Return the sum of a loss over logits (rows, K) with labels (rows,), and its gradient (rows, K).

    The gradient has the dtype of the logits, but float32 for fp16. All logits are first treated as background, one
    chunk at a time, so that only the gradient takes memory of their size; then the one logit per row that belongs to
    the labelled class is corrected.
    """
    weight_pos, weight_neg = weights
    num_classes = logits.shape[1]
    dtype = torch.promote_types(logits.dtype, torch.float32)
    row_weight = (labels >= 0).to(dtype).mul_(weight_neg)  # (rows,), 0 where ignored
    # In fp16 a small gradient would underflow: the loss scale is applied only afterwards.
    grad = torch.empty_like(logits, dtype=torch.float32 if logits.dtype == torch.float16 else logits.dtype)
    loss = logits.new_zeros((), dtype=dtype)
    rows = chunk_rows(logits, chunk)
    for x, weight, out in zip(logits.split(rows), row_weight.split(rows), grad.split(rows), strict=True):
        loss_x, grad_x = terms(x.to(dtype))
        loss += torch.dot(loss_x.sum(dim=1), weight)
        out.copy_(grad_x.mul_(weight.unsqueeze(1)))

    index = labels.clamp(0, num_classes - 1).unsqueeze(1)  # (rows, 1)
    x = logits.gather(1, index).to(dtype)
    loss_neg, _ = terms(x)
    loss_pos, grad_pos = terms(-x)
    foreground = ((labels >= 0) & (labels < num_classes)).unsqueeze(1)
    loss += torch.where(foreground, weight_pos * loss_pos - weight_neg * loss_neg, 0).sum()
    grad.scatter_(1, index, torch.where(foreground, (-weight_pos * grad_pos).to(grad.dtype), grad.gather(1, index)))
    return loss, grad


class _DenseLossSum(torch.autograd.Function):
    """Sum of a loss over one level, whose gradient is computed in the same pass as the value."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, terms: Terms, weights: tuple[float, float], chunk: int | None
    ) -> Tensor:
        """Sum the loss of logits (N, Ri, K) with labels (N, Ri) to a scalar (), and keep the gradient."""
        arguments = (logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), terms, weights, chunk)
        loss, ctx.grad = _loss_and_grad(*arguments)
        ctx.save_for_backward(logits, labels)
        ctx.rest = arguments[2:]
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Scale the kept gradient (N, Ri, K) by ``grad_output`` ()."""
        grad, ctx.grad = ctx.grad, None
        logits, labels = ctx.saved_tensors
        if grad is None:  # second pass through a retained graph: the first one consumed the gradient
            _, grad = _loss_and_grad(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), *ctx.rest)
        return grad.mul_(grad_output).to(logits.dtype).view(logits.shape), None, None, None, None


def dense_loss_sum(
    pred_logits: list[Tensor],
    labels: Tensor,
    terms: Terms,
    *,
    weight_pos: float = 1.0,
    weight_neg: float = 1.0,
    chunk: int | None = None,
) -> Tensor:
    """Sum a loss over anchors and classes.

    Args:
        pred_logits: L x (N, Ri, K) of any float dtype; computed in float32 or, for float64, in float64.
        labels: (N, R) int64: -1 ignore (no loss, no gradient), 0..K-1 class, K background.
        terms: the loss of a background logit, see ``Terms``.
        weight_pos: weight of logits with target 1.
        weight_neg: weight of logits with target 0.
        chunk: logits to process at once; None: what suits the device.

    Returns:
        float32 (or float64) scalar () that can be differentiated once.
    """
    split = labels.split([logits.shape[1] for logits in pred_logits], dim=1)
    return sum(
        _DenseLossSum.apply(x, y, terms, (weight_pos, weight_neg), chunk)
        for x, y in zip(pred_logits, split, strict=True)
    )


@torch.no_grad()
def loss_of_each_anchor(pred_logits: list[Tensor], labels: Tensor, terms: Terms) -> Tensor:
    """Return the loss of every anchor, summed over classes: (N, R) float32, detached, 0 where labels (N, R) are -1."""
    losses = []
    for logits, y in zip(pred_logits, labels.split([x.shape[1] for x in pred_logits], dim=1), strict=True):
        flat, rows = logits.reshape(-1, logits.shape[-1]), y.reshape(-1, 1)
        loss = torch.cat([terms(x.float())[0].sum(dim=1) for x in flat.split(chunk_rows(flat))])
        x = flat.gather(1, rows.clamp(0, flat.shape[1] - 1)).float().squeeze(1)
        foreground = ((rows >= 0) & (rows < flat.shape[1])).squeeze(1)
        loss += torch.where(foreground, terms(-x)[0] - terms(x)[0], 0)
        losses.append(loss.masked_fill_(rows.squeeze(1) < 0, 0).view(y.shape))
    return torch.cat(losses, dim=1)


def foreground_logits(pred_logits: list[Tensor], targets: ClassTargets) -> Tensor:
    """Return the logits (P,) of the labelled classes of the foreground anchors, float32, with gradient; no GPU sync."""
    image_idxs, anchor_idxs = targets.foreground_idxs()
    classes = targets.labels[image_idxs, anchor_idxs]
    result, start = pred_logits[0].new_zeros(len(classes), dtype=torch.float32), 0
    for logits in pred_logits:
        inside = (anchor_idxs >= start) & (anchor_idxs < start + logits.shape[1])
        rows = (anchor_idxs - start).clamp(0, logits.shape[1] - 1)
        result = torch.where(inside, logits[image_idxs, rows, classes].float(), result)
        start += logits.shape[1]
    return result
