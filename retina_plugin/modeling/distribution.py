"""Boxes as distributions: for each side of a box, the probabilities of distances from the anchor's centre."""

from typing import Any

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform

from retina_plugin.modeling.head import HEAD_REGISTRY, RetinaNetHead
from retina_plugin.modeling.losses.box import BOX_LOSS_REGISTRY, GIoULoss
from retina_plugin.registry import reads

BINS = 17
"""B, number of distances whose probabilities are predicted."""

REACH = 2.0
"""Largest distance, in sides of the anchor: a box with an IoU of at least 0.5 reaches at most 1.5 from its centre."""

SHARPNESS = 8.0
"""By how much the first logits fall per side that a distance differs from 0.5, which is the anchor's own."""

DFL_WEIGHT = 0.25
"""Weight of the distribution focal loss relative to the GIoU loss (Li et al. 2020, section 4)."""


def expected_deltas(logits: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Return the deltas (..., 4) that the expected distances of logits (..., 4·B) stand for.

    Args:
        logits: B each for left, top, right and bottom.
        weights: MODEL.RETINANET.BBOX_REG_WEIGHTS.

    Example:
        >>> centred = torch.full((1, 4 * BINS), -100.0)
        >>> centred[0, 4::BINS] = 0.0  # all at the fifth distance, half a side of the anchor
        >>> expected_deltas(centred, (1.0, 1.0, 1.0, 1.0)).tolist()
        [[0.0, 0.0, 0.0, 0.0]]
    """
    steps = torch.linspace(0, REACH, BINS, device=logits.device, dtype=logits.dtype)
    distances = logits.unflatten(-1, (4, BINS)).softmax(dim=-1) @ steps  # (..., 4)
    left, top, right, bottom = distances.clamp(min=1e-3).unbind(dim=-1)
    deltas = ((right - left) / 2, (bottom - top) / 2, torch.log(left + right), torch.log(top + bottom))
    return torch.stack([weight * delta for weight, delta in zip(weights, deltas, strict=True)], dim=-1)


class DistributionTransform(Box2BoxTransform):
    """Detectron2's transform, which also takes the logits of distances in place of deltas."""

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Map deltas (D, 4) or logits (D, 4·B), and anchors (D, 4), to boxes (D, 4)."""
        return super().apply_deltas(self.to_deltas(deltas), boxes)

    def to_deltas(self, outputs: Tensor) -> Tensor:
        """Return the deltas (D, 4) that deltas (D, 4) or logits (D, 4·B) stand for."""
        return outputs if outputs.shape[-1] == 4 else expected_deltas(outputs.float(), self.weights)


@HEAD_REGISTRY.register("distribution")
@reads(
    "MODEL.RETINANET.NUM_CONVS", "MODEL.RETINANET.PRIOR_PROB", "MODEL.RETINANET.HEAD_CHANNELS", "MODEL.RETINANET.NORM"
)
class DistributionHead(RetinaNetHead):
    """RetinaNet's head with 4·B outputs per anchor for the box.

    While it is trained it returns them as they are, (N, A·4·B, Hi, Wi); otherwise the deltas of the expected distances,
    so that everything behind it works as with other heads.

    Source: Li et al. 2020, *Generalized Focal Loss* (arXiv 2006.04388), section 3.2. There, a distance is counted in
    strides of the level; here in sides of the anchor, because a location has several anchors.
    """

    box_outputs = 4 * BINS
    box2box_class = DistributionTransform

    @configurable
    def __init__(self, *, box_weights: tuple[float, float, float, float], **options: Any) -> None:
        """Build the head, with each anchor's own box as the first prediction.

        Args:
            box_weights: MODEL.RETINANET.BBOX_REG_WEIGHTS.
            options: of :class:`retina_plugin.modeling.head.RetinaNetHead`.
        """
        super().__init__(**options)
        self.box_weights = box_weights
        first = -SHARPNESS * (torch.linspace(0, REACH, BINS) - 0.5).abs()
        assert self.bbox_pred.bias is not None
        with torch.no_grad():
            self.bbox_pred.bias.copy_(first.repeat(len(self.bbox_pred.bias) // BINS))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec], num_anchors: int) -> dict[str, Any]:
        """Return the constructor's arguments, see :class:`retina_plugin.modeling.head.RetinaNetHead`."""
        weights = tuple(cfg.MODEL.RETINANET.BBOX_REG_WEIGHTS)
        return {**super().from_config(cfg, input_shape, num_anchors), "box_weights": weights}

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map features L x (N, C, Hi, Wi) to logits L x (N, A·K, Hi, Wi) and deltas L x (N, A·4, Hi, Wi), see above."""
        logits, outputs = super().forward(features)
        return logits, outputs if self.training else [self._deltas(x) for x in outputs]

    def _deltas(self, outputs: Tensor) -> Tensor:
        """Map outputs (N, A·4·B, Hi, Wi) to deltas (N, A·4, Hi, Wi)."""
        per_anchor = outputs.permute(0, 2, 3, 1).unflatten(-1, (-1, 4 * BINS))  # (N, Hi, Wi, A, 4·B)
        return expected_deltas(per_anchor.float(), self.box_weights).flatten(3).permute(0, 3, 1, 2)


@BOX_LOSS_REGISTRY.register("distribution")
@reads()
class DistributionLoss(GIoULoss):
    """GIoU of the expected box, and the distribution focal loss of its sides.

    Where the head returns deltas, it is the GIoU loss alone: in evaluation, and with another head than "distribution".

    Source: Li et al. 2020, equation 6 (there, both parts are also weighted by the predicted score).
    """

    def __call__(self, pred_deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """Map logits (P, 4·B), anchors and boxes, each (P, 4), to the float32 sum ()."""
        loss = super().__call__(pred_deltas, anchors, gt_boxes)
        if pred_deltas.shape[-1] == 4:
            return loss
        return loss + DFL_WEIGHT * distribution_focal_loss(pred_deltas.float(), true_distances(anchors, gt_boxes))


def true_distances(anchors: Tensor, gt_boxes: Tensor) -> Tensor:
    """Return the distances (P, 4) of the left, top, right and bottom side of boxes from the centres of their anchors.

    They are in sides of the anchor, clamped to 0..REACH.

    Args:
        anchors: (P, 4) XYXY.
        gt_boxes: (P, 4) XYXY.
    """
    sizes = anchors[:, 2:] - anchors[:, :2]
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    return torch.cat([(centres - gt_boxes[:, :2]) / sizes, (gt_boxes[:, 2:] - centres) / sizes], dim=1).clamp(0, REACH)


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Return the cross entropy with the two distances next to the true one, weighted by how near they are.

    Args:
        logits: (P, 4·B).
        distances: (P, 4), 0..REACH.

    Returns:
        The sum over the P anchors of the mean over their sides, ().

    Source: Li et al. 2020, equation 6.
    """
    place = distances.flatten() * ((BINS - 1) / REACH)  # (4·P,)
    below = place.floor().clamp(max=BINS - 2)
    share = place - below  # of the distance above
    log_p = nn.functional.log_softmax(logits.reshape(-1, BINS), dim=-1)  # (4·P, B)
    index = below.long()[:, None]
    losses = (share - 1) * log_p.gather(1, index)[:, 0] - share * log_p.gather(1, index + 1)[:, 0]
    return losses.sum() / 4
