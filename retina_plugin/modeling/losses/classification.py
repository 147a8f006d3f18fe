"""Losses of the class subnet that depend on p_t alone: focal loss, FL*, cross entropy."""

import functools
from typing import TypedDict

import torch
from torch import Tensor

from retina_plugin.modeling.losses.dense import (
    CHUNK_GPU,
    ClassTargets,
    Terms,
    cross_entropy_terms,
    dense_loss_sum,
    focal_terms,
    softplus,
)
from retina_plugin.registry import SlotRegistry, reads

CLS_LOSS_REGISTRY = SlotRegistry("classification loss", "MODEL.RETINANET.CLS_LOSS", section="MODEL.CLS_LOSS")
"""Classes called as ``loss(pred_logits, targets)`` with L logits (N, Ri, K) and ``ClassTargets``.

Constructors are keyword-only and declare only the options they need: ``alpha`` and ``gamma``
(MODEL.RETINANET.FOCAL_LOSS_*) and the keys of MODEL.CLS_LOSS in lower case. The result is a float32 scalar: the sum
over everything that is not ignored, which the meta-architecture divides by its normaliser, or, if the class sets
``normalized = True``, a mean that it does not divide. ``compile()``, called once if MODEL.COMPILE has "cls_loss", may
replace the dense part by a compiled function.
"""


class DenseLoss:
    """A loss that depends on p_t alone: ``terms`` of all logits, with one weight per target.

    Args:
        terms: the loss of a background logit, see ``Terms``.
        weight_pos: weight of logits with target 1.
        weight_neg: weight of logits with target 0.
    """

    normalized = False

    def __init__(self, terms: Terms, *, weight_pos: float = 1.0, weight_neg: float = 1.0) -> None:
        self.terms, self.weight_pos, self.weight_neg = terms, weight_pos, weight_neg
        self.chunk: int | None = None

    def compile(self) -> None:
        """Compile the dense part; once its operations are fused, it needs no chunks."""
        self.terms, self.chunk = torch.compile(self.terms, dynamic=True), CHUNK_GPU

    def __call__(self, pred_logits: list[Tensor], targets: ClassTargets) -> Tensor:
        """Map logits L x (N, Ri, K) and targets to the float32 sum ()."""
        return dense_loss_sum(
            pred_logits,
            targets.labels,
            self.terms,
            weight_pos=self.weight_pos,
            weight_neg=self.weight_neg,
            chunk=self.chunk,
        )


class Weights(TypedDict, total=False):
    """Weights of logits with target 1 and with target 0, as keyword arguments of a loss."""

    weight_pos: float
    weight_neg: float


def balance(alpha: float) -> Weights:
    """Return the weights of foreground and background, α and 1 - α; none for a negative α.

    Raises:
        ValueError: if α is above 1.
    """
    if alpha > 1:
        raise ValueError(f"MODEL.RETINANET.FOCAL_LOSS_ALPHA must be at most 1 (negative: no weighting); got {alpha}")
    return {"weight_pos": alpha, "weight_neg": 1 - alpha} if alpha >= 0 else {}


@CLS_LOSS_REGISTRY.register("focal")
@reads("MODEL.RETINANET.FOCAL_LOSS_ALPHA", "MODEL.RETINANET.FOCAL_LOSS_GAMMA")
class FocalLoss(DenseLoss):
    """α-balanced focal loss, -α_t (1 - p_t)^γ log(p_t) (Lin et al. 2017, equation 5)."""

    def __init__(self, *, alpha: float, gamma: float) -> None:
        if gamma < 0:
            raise ValueError(f"MODEL.RETINANET.FOCAL_LOSS_GAMMA must be at least 0; got {gamma}")
        super().__init__(functools.partial(focal_terms, gamma=gamma), **balance(alpha))


@CLS_LOSS_REGISTRY.register("cross_entropy")
@reads()
class CrossEntropyLoss(DenseLoss):
    """Cross entropy, -log(p_t), of independent sigmoids (Lin et al. 2017, equation 1)."""

    def __init__(self) -> None:
        super().__init__(cross_entropy_terms)


@CLS_LOSS_REGISTRY.register("balanced_cross_entropy")
@reads("MODEL.RETINANET.FOCAL_LOSS_ALPHA")
class BalancedCrossEntropyLoss(DenseLoss):
    """α-balanced cross entropy, -α_t log(p_t) (Lin et al. 2017, equation 3)."""

    def __init__(self, *, alpha: float) -> None:
        super().__init__(cross_entropy_terms, **balance(alpha))


def focal_star_terms(x: Tensor, gamma: float, beta: float) -> tuple[Tensor, Tensor]:
    """Return FL* of background logits x (any shape), log(1 + e^(γx - β)) / γ, and its derivative sigmoid(γx - β)."""
    z = x * gamma - beta
    return softplus(z) / gamma, z.sigmoid()


@CLS_LOSS_REGISTRY.register("focal_star")
@reads("MODEL.CLS_LOSS.FOCAL_STAR_GAMMA", "MODEL.CLS_LOSS.FOCAL_STAR_BETA")
class FocalStarLoss(DenseLoss):
    """FL*, -log(p*_t) / γ with p*_t = sigmoid(γ x_t + β) (Lin et al. 2017, appendix A, equations 6 and 7)."""

    def __init__(self, *, focal_star_gamma: float, focal_star_beta: float) -> None:
        if focal_star_gamma <= 0:
            raise ValueError(f"MODEL.CLS_LOSS.FOCAL_STAR_GAMMA must be above 0; got {focal_star_gamma}")
        super().__init__(functools.partial(focal_star_terms, gamma=focal_star_gamma, beta=focal_star_beta))


def sigmoid_focal_loss_sum(logits: Tensor, labels: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Sum the α-balanced focal loss, -α_t (1 - p_t)^γ log(p_t), over anchors and classes.

    Args:
        logits: (..., K) of any float dtype; computed in float32 or, for float64, in float64.
        labels: (...) int64: -1 ignore (no loss, no gradient), 0..K-1 class, K background.
        alpha: weight α of foreground, 1 - α of background; negative for no weighting.
        gamma: focusing parameter γ >= 0; with 0 this is the (α-balanced) cross entropy.

    Returns:
        float32 (or float64) scalar () that can be differentiated once.

    Example:
        >>> sigmoid_focal_loss_sum(torch.zeros(2, 1), torch.tensor([0, 1]), alpha=0.25, gamma=2.0)
        tensor(0.1733)

    (Both anchors have p_t = 0.5: 0.25 · 0.25 · log 2 + 0.75 · 0.25 · log 2 = 0.25 · 0.6931.)

    Source: Lin et al. 2017, equation 5.
    """
    terms = functools.partial(focal_terms, gamma=gamma)
    return dense_loss_sum([logits.reshape(1, -1, logits.shape[-1])], labels.reshape(1, -1), terms, **balance(alpha))
