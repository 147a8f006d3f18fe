"""Losses of the class subnet, from integer labels: no one-hot target is ever formed."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from retina_plugin.registry import SlotRegistry

CLS_LOSS_REGISTRY = SlotRegistry("classification loss", "MODEL.RETINANET.CLS_LOSS")
"""Classes constructed with ``alpha`` and ``gamma`` and called as ``loss(pred_logits, gt_labels)``.

``pred_logits`` is a list of L tensors (N, Ri, K), ``gt_labels`` (N, R) int64 with R the sum of Ri:
-1 ignore, 0..K-1 class, K background. Returns the float32 sum over everything that is not ignored;
the meta-architecture divides it by the normaliser. ``compile()``, called once if MODEL.COMPILE has
"cls_loss", may put a compiled function in the place of the dense part.
"""

CHUNK_CPU, CHUNK_GPU = 2**17, 2**26
"""Logits that are worked on at once: on a CPU what stays in the caches, on a GPU few kernels."""

Terms = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps logits whose target is 0 to their loss and to its derivative, elementwise, float32 or float64.

The loss at a logit x whose target is 1 has to be that at -x whose target is 0, as it is for
everything that depends on p_t alone.
"""


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), elementwise, to 2e-7 of its value.

    On a CPU with max(x, 0) + 2 artanh(e / (2 + e)), e = e^-|x|, since PyTorch's own log1p takes three
    times as long there as everything here together.
    """
    if x.device.type != "cpu":
        return F.softplus(x)
    e = x.abs().neg_().exp_()
    return x.clamp(min=0).add_(e.div_(e + 2).atanh_(), alpha=2)


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


def _loss_and_grad(logits: Tensor, labels: Tensor, terms: Terms, weights: tuple[float, float], chunk: int) -> tuple[Tensor, Tensor]:
    """Sum of a loss over (rows, K) logits with (rows,) labels, and its gradient in the type of the logits.

    All logits are taken as background, a chunk at a time, so that beside the gradient nothing of
    their size is held; then the one logit a row that belongs to the labelled class is corrected.
    """
    weight_pos, weight_neg = weights
    num_classes = logits.shape[1]
    dtype = torch.promote_types(logits.dtype, torch.float32)
    row_weight = (labels >= 0).to(dtype).mul_(weight_neg)  # (rows,), 0 where ignored
    grad = torch.empty_like(logits)
    loss = logits.new_zeros((), dtype=dtype)
    rows = max(1, chunk // num_classes)
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
    def forward(ctx, logits: Tensor, labels: Tensor, terms: Terms, weights: tuple[float, float], chunk: int) -> Tensor:
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
        return grad.mul_(grad_output).view(logits.shape), None, None, None, None


def dense_loss_sum(logits: Tensor, labels: Tensor, terms: Terms, *, weight_pos: float, weight_neg: float, chunk: int | None = None) -> Tensor:
    """Sum of a loss over anchors and classes.

    Args:
        logits: (..., K) of any float type, on any device; the arithmetic is float32 or, for float64, float64.
        labels: (...) int64: -1 ignore (no loss, no gradient), 0..K-1 class, K background.
        terms: the loss of a background logit, see ``Terms``.
        weight_pos, weight_neg: factors of logits with target 1 and with target 0.
        chunk: logits to work on at once; None chooses by the device.

    Returns:
        float32 (or float64) scalar () that can be differentiated once.
    """
    chunk = chunk or (CHUNK_CPU if logits.device.type == "cpu" else CHUNK_GPU)
    return _DenseLossSum.apply(logits, labels, terms, (weight_pos, weight_neg), chunk)


def sigmoid_focal_loss_sum(logits: Tensor, labels: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Sum over anchors and classes of the α-balanced focal loss, -α_t (1 - p_t)^γ log(p_t).

    Args:
        logits, labels: (..., K) and (...), see :func:`dense_loss_sum`.
        alpha: weight α of foreground, 1 - α of background; negative for no weighting.
        gamma: focusing parameter γ >= 0; 0 gives the (α-balanced) cross entropy.

    Returns:
        float32 (or float64) scalar () that can be differentiated once.

    Example:
        >>> sigmoid_focal_loss_sum(torch.zeros(2, 1), torch.tensor([0, 1]), alpha=0.25, gamma=2.0)
        tensor(0.1733)

    (Both anchors have p_t = 0.5: 0.25 · 0.25 · log 2 + 0.75 · 0.25 · log 2 = 0.25 · 0.6931.)

    Source: Lin et al. 2017, equation 5.
    """
    return FocalLoss(alpha=alpha, gamma=gamma)([logits.unsqueeze(0).flatten(1, -2)], labels.reshape(1, -1))


@CLS_LOSS_REGISTRY.register("focal")
class FocalLoss:
    """α-balanced focal loss (Lin et al. 2017, equation 5), see :func:`sigmoid_focal_loss_sum`."""

    def __init__(self, *, alpha: float, gamma: float) -> None:
        if alpha > 1 or gamma < 0:
            raise ValueError(
                "MODEL.RETINANET.FOCAL_LOSS_ALPHA must be at most 1 (negative: no weighting) and "
                f"FOCAL_LOSS_GAMMA at least 0; got {alpha} and {gamma}"
            )
        self.weight_pos, self.weight_neg = (alpha, 1 - alpha) if alpha >= 0 else (1.0, 1.0)
        self.terms = lambda x: focal_terms(x, gamma)
        self.chunk = None

    def compile(self) -> None:
        """Let the compiler fuse the dense part; it then needs no chunks."""
        self.terms, self.chunk = torch.compile(self.terms, dynamic=True), CHUNK_GPU

    def __call__(self, pred_logits: list[Tensor], gt_labels: Tensor) -> Tensor:
        """Logits L x (N, Ri, K) and labels (N, R) to the float32 sum ()."""
        labels = gt_labels.split([logits.shape[1] for logits in pred_logits], dim=1)
        return sum(
            dense_loss_sum(x, y, self.terms, weight_pos=self.weight_pos, weight_neg=self.weight_neg, chunk=self.chunk)
            for x, y in zip(pred_logits, labels, strict=True)
        )
