"""Losses of the class subnet, from integer labels: no one-hot target is ever formed."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from retina_plugin.registry import SlotRegistry

CLS_LOSS_REGISTRY = SlotRegistry("classification loss", "MODEL.RETINANET.CLS_LOSS")
"""Classes constructed with ``alpha`` and ``gamma`` and called as ``loss(pred_logits, gt_labels)``.

``pred_logits`` is a list of L tensors (N, Ri, K), ``gt_labels`` (N, R) int64 with R the sum of Ri:
-1 ignore, 0..K-1 class, K background. Returns the float32 sum over everything that is not ignored;
the meta-architecture divides it by the normaliser.
"""


def _focal_terms(p: Tensor, log_loss: Tensor, weight: float, gamma: float) -> tuple[Tensor, Tensor]:
    """Focal loss and the size of its derivative for a wrong-side probability p.

    With p the probability given to the wrong side and ``log_loss`` = -log(1 - p), the loss is
    w p^γ log_loss, and since dp/dx = p (1 - p) and d(log_loss)/dx = p, its derivative by the logit
    is w p^γ (γ (1 - p) log_loss + p): no power below γ appears, so that γ < 1 is safe at p = 0.
    """
    modulator = weight * p**gamma if gamma != 0 else torch.full_like(p, weight)
    return modulator * log_loss, modulator * (gamma * (1 - p) * log_loss + p)


class _FocalLossSum(torch.autograd.Function):
    """Sum of the focal loss over one level; the gradient is formed in the same pass."""

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
        weight_pos, weight_neg = (alpha, 1 - alpha) if alpha >= 0 else (1.0, 1.0)
        x = logits.to(torch.promote_types(logits.dtype, torch.float32))  # (N, Ri, K)
        num_classes = x.shape[-1]
        loss, grad = _focal_terms(x.sigmoid(), F.softplus(x), weight_neg, gamma)

        # One logit a row is that of the labelled class: exchange its term where the row is foreground.
        index = labels.clamp(0, num_classes - 1).unsqueeze(-1)  # (N, Ri, 1)
        x_target = x.gather(-1, index)
        loss_target, grad_target = _focal_terms((-x_target).sigmoid(), F.softplus(-x_target), weight_pos, gamma)
        foreground = ((labels >= 0) & (labels < num_classes)).unsqueeze(-1)
        loss.scatter_(-1, index, torch.where(foreground, loss_target, loss.gather(-1, index)))
        grad.scatter_(-1, index, torch.where(foreground, -grad_target, grad.gather(-1, index)))

        ignored = (labels < 0).unsqueeze(-1)
        ctx.save_for_backward(grad.masked_fill_(ignored, 0).to(logits.dtype))
        return loss.masked_fill_(ignored, 0).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = ctx.saved_tensors
        return grad * grad_output.to(grad.dtype), None, None, None


def sigmoid_focal_loss_sum(logits: Tensor, labels: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Sum over anchors and classes of the α-balanced focal loss, -α_t (1 - p_t)^γ log(p_t).

    Args:
        logits: (..., K) of any float type; the arithmetic is float32 or, for float64, float64.
        labels: (...) int64: -1 ignore (no loss, no gradient), 0..K-1 class, K background.
        alpha: weight α of foreground, 1 - α of background; negative for no weighting.
        gamma: focusing parameter γ >= 0; 0 gives the (α-balanced) cross entropy.

    Returns:
        float32 scalar () that can be differentiated once.

    Example:
        >>> sigmoid_focal_loss_sum(torch.zeros(2, 1), torch.tensor([0, 1]), alpha=0.25, gamma=2.0)
        tensor(0.1733)

    (Both anchors have p_t = 0.5: 0.25 · 0.25 · log 2 + 0.75 · 0.25 · log 2 = 0.25 · 0.6931.)

    Source: Lin et al. 2017, equation 5; the gradient is derived in ``_focal_terms``.
    """
    return _FocalLossSum.apply(logits, labels, alpha, gamma)


@CLS_LOSS_REGISTRY.register("focal")
class FocalLoss:
    """α-balanced focal loss (Lin et al. 2017, equation 5), see :func:`sigmoid_focal_loss_sum`."""

    def __init__(self, *, alpha: float, gamma: float) -> None:
        if alpha > 1 or gamma < 0:
            raise ValueError(
                "MODEL.RETINANET.FOCAL_LOSS_ALPHA must be at most 1 (negative: no weighting) and "
                f"FOCAL_LOSS_GAMMA at least 0; got {alpha} and {gamma}"
            )
        self.alpha, self.gamma = alpha, gamma

    def __call__(self, pred_logits: list[Tensor], gt_labels: Tensor) -> Tensor:
        """Logits L x (N, Ri, K) and labels (N, R) to the float32 sum ()."""
        labels = gt_labels.split([logits.shape[1] for logits in pred_logits], dim=1)
        return sum(
            sigmoid_focal_loss_sum(x, y, alpha=self.alpha, gamma=self.gamma) for x, y in zip(pred_logits, labels, strict=True)
        )
