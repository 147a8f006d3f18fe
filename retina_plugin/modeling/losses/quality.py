"""Classification losses whose target for the labelled class is the IoU of the predicted box with its object."""

import functools

import torch
from torch import Tensor, nn

from detectron2.structures.boxes import Boxes, matched_pairwise_iou

from retina_plugin.modeling.losses.classification import CLS_LOSS_REGISTRY
from retina_plugin.modeling.losses.dense import ClassTargets, dense_loss_sum, focal_terms, foreground_logits
from retina_plugin.registry import reads


def box_quality(targets: ClassTargets) -> Tensor:
    """Return the IoU (P,) of the predicted box of each foreground anchor with its matched box, detached."""
    predicted = targets.decoded(*targets.foreground_idxs())
    return matched_pairwise_iou(Boxes(predicted), Boxes(targets.matched_boxes()))


class _QualityLoss:
    """Focal loss of all logits with target 0, plus ``of_foreground`` of the labelled classes."""

    normalized = False

    def __init__(self, *, gamma: float, weight_neg: float) -> None:
        self.terms, self.weight_neg = functools.partial(focal_terms, gamma=gamma), weight_neg

    def of_foreground(self, x: Tensor, quality: Tensor) -> Tensor:
        """Return the losses (P,) of logits x (P,) whose targets are qualities (P,) in 0..1."""
        raise NotImplementedError

    def __call__(self, pred_logits: list[Tensor], targets: ClassTargets) -> Tensor:
        """Map logits L x (N, Ri, K) and targets to the float32 sum ()."""
        # With weight_pos 0 the dense part omits the labelled logits of foreground anchors.
        background = dense_loss_sum(pred_logits, targets.labels, self.terms, weight_pos=0.0, weight_neg=self.weight_neg)
        return background + self.of_foreground(foreground_logits(pred_logits, targets), box_quality(targets)).sum()


@CLS_LOSS_REGISTRY.register("quality_focal")
@reads("MODEL.CLS_LOSS.QUALITY_BETA")
class QualityFocalLoss(_QualityLoss):
    """|y - p|^β times the cross entropy of p with the soft target y, the quality of the box.

    Source: Li et al. 2020, *Generalized Focal Loss*, equation 2.
    """

    def __init__(self, *, quality_beta: float) -> None:
        self.beta = quality_beta
        super().__init__(gamma=quality_beta, weight_neg=1.0)

    def of_foreground(self, x: Tensor, quality: Tensor) -> Tensor:
        """Return the losses (P,) of logits x (P,) with soft targets (P,)."""
        cross_entropy = nn.functional.binary_cross_entropy_with_logits(x, quality, reduction="none")
        return (quality - x.sigmoid()).abs().pow(self.beta) * cross_entropy


@CLS_LOSS_REGISTRY.register("varifocal")
@reads("MODEL.CLS_LOSS.VARIFOCAL_ALPHA", "MODEL.CLS_LOSS.VARIFOCAL_GAMMA")
class VarifocalLoss(_QualityLoss):
    """Cross entropy with the soft target q, weighted by q, where q > 0; elsewhere α p^γ times that with target 0.

    Elsewhere means all background, and foreground whose predicted box does not overlap its object.

    Source: Zhang et al. 2021, *VarifocalNet*, equation 2.
    """

    def __init__(self, *, varifocal_alpha: float, varifocal_gamma: float) -> None:
        super().__init__(gamma=varifocal_gamma, weight_neg=varifocal_alpha)
        self.gamma = varifocal_gamma

    def of_foreground(self, x: Tensor, quality: Tensor) -> Tensor:
        """Return the losses (P,) of logits x (P,) with soft targets (P,)."""
        positive = quality * nn.functional.binary_cross_entropy_with_logits(x, quality, reduction="none")
        # p^γ as a power of e: its gradient stays finite where p is 0, also for γ < 1.
        missed = self.weight_neg * (self.gamma * nn.functional.logsigmoid(x)).exp() * nn.functional.softplus(x)
        return torch.where(quality > 0, positive, missed)
