"""What the classification losses share: sums over all anchors and classes, from integer labels, without one-hot targets."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

CHUNK_CPU, CHUNK_GPU = 2**17, 2**26
"""Logits that are worked on at once: on a CPU what stays in the caches, on a GPU few kernels."""

Terms = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps logits whose target is 0 to their loss and to its derivative, elementwise, float32 or float64.

The loss at a logit x whose target is 1 has to be that at -x whose target is 0, as it is for
everything that depends on p_t alone.
"""


@dataclass(frozen=True)
class ClassTargets:
    """What a classification loss may know of a batch. Only ``labels`` matters to a loss that depends on p_t alone.

    Args:
        labels: (N, R) int64: -1 ignore, 0..K-1 class, K background.
        foreground: image_idxs (P,) and anchor_idxs (P,) of the anchors with a class, in the order of ``labels``.
        gt_boxes: (P, 4), the boxes that these are matched with, XYXY pixels.
        decode: image_idxs (Q,) and anchor_idxs (Q,) to the predicted boxes (Q, 4) of these anchors, without gradient.
    """

    labels: Tensor
    foreground: tuple[Tensor, Tensor] | None = None
    gt_boxes: Tensor | None = None
    decode: Callable[[Tensor, Tensor], Tensor] | None = None


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), elementwise, to 2e-7 of its value.

    On a CPU with max(x, 0) + 2 artanh(e / (2 + e)), e = e^-|x|, since PyTorch's own log1p takes three
    times as long there as everything here together.
    """
    if x.device.type != "cpu":
        return F.softplus(x)
    e = x.abs().neg_().exp_()
    return x.clamp(min=0).add_(e.div_(e + 2).atanh_(), alpha=2)


def cross_entropy_terms(x: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of background logits x, log(1 + e^x), and its derivative sigmoid(x)."""
    return softplus(x), x.sigmoid()


def focal_terms(x: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Focal loss of background logits x, p^γ log(1 + e^x) with p = sigmoid(x), and its derivative.

    Since dp/dx = p (1 - p) and d log(1 + e^x) / dx = p, the derivative is
    p^γ (γ (1 - p) log(1 + e^x) + p): no power below γ appears, so that γ < 1 is safe at p = 0.

    Source: Lin et al. 2017, equation 4.
    """
    p, log_loss = x.sigmoid(), softplus(x)
    modulator = p.pow(gamma)
    loss = modulator * log_loss
    return loss, torch.addcmul(log_loss, p, log_loss, value=-1).mul_(gamma).add_(p).mul_(modulator)


def chunk_rows(logits: Tensor, chunk: int | None = None) -> int:
    """Rows of (rows, K) logits to work on at once; ``chunk`` logits, or what suits the device."""
    return max(1, (chunk or (CHUNK_CPU if logits.device.type == "cpu" else CHUNK_GPU)) // max(1, logits.shape[-1]))


def _loss_and_grad(
    logits: Tensor, labels: Tensor, terms: Terms, weights: tuple[float, float], chunk: int | None
) -> tuple[Tensor, Tensor]:
    """Sum of a loss over (rows, K) logits with (rows,) labels, and its gradient in the type of the logits (of fp16: float32).

    All logits are taken as background, a chunk at a time, so that beside the gradient nothing of
    their size is held; then the one logit a row that belongs to the labelled class is corrected.
    """
    weight_pos, weight_neg = weights
    num_classes = logits.shape[1]
    dtype = torch.promote_types(logits.dtype, torch.float32)
    row_weight = (labels >= 0).to(dtype).mul_(weight_neg)  # (rows,), 0 where ignored
    # A small gradient is nothing in fp16 until the loss scale, which comes later, has made it larger.
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
    """Sum of a loss over one level; the gradient is formed in the same pass as the value."""

    @staticmethod
    def forward(
        ctx, logits: Tensor, labels: Tensor, terms: Terms, weights: tuple[float, float], chunk: int | None
    ) -> Tensor:
        arguments = (logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), terms, weights, chunk)
        loss, ctx.grad = _loss_and_grad(*arguments)
        ctx.save_for_backward(logits, labels)
        ctx.rest = arguments[2:]
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None, None, None, None]:
        grad, ctx.grad = ctx.grad, None
        logits, labels = ctx.saved_tensors
        if grad is None:  # a second pass through a retained graph: the first one gave the gradient away
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
    """Sum of a loss over anchors and classes.

    Args:
        pred_logits: L x (N, Ri, K) of any float type, on any device; the arithmetic is float32 or, for float64, float64.
        labels: (N, R) int64: -1 ignore (no loss, no gradient), 0..K-1 class, K background.
        terms: the loss of a background logit, see ``Terms``.
        weight_pos, weight_neg: factors of logits with target 1 and with target 0.
        chunk: logits to work on at once; None chooses by the device.

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
    """Loss of every anchor, summed over its classes, (N, R) float32, without gradient; labels (N, R), 0 where ignored."""
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
    """Logits (P,) of the labelled class of the foreground anchors, float32, with gradient; no waiting for a GPU."""
    image_idxs, anchor_idxs = targets.foreground
    classes = targets.labels[image_idxs, anchor_idxs]
    result, start = pred_logits[0].new_zeros(len(classes), dtype=torch.float32), 0
    for logits in pred_logits:
        inside = (anchor_idxs >= start) & (anchor_idxs < start + logits.shape[1])
        result = torch.where(
            inside, logits[image_idxs, (anchor_idxs - start).clamp(0, logits.shape[1] - 1), classes].float(), result
        )
        start += logits.shape[1]
    return result
