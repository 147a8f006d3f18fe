"""Losses of the box subnet, over foreground anchors only."""

import torch
from fvcore.nn import smooth_l1_loss
from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from detectron2.modeling.box_regression import Box2BoxTransform

from retina_plugin.registry import SlotRegistry, reads

BOX_LOSS_REGISTRY = SlotRegistry("box loss", "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", section="MODEL.BOX_LOSS")
"""Classes whose keyword-only constructors name those of ``transform`` and ``beta`` that they use, called as ``loss(pred_deltas, anchors, gt_boxes)``.

All three are (P, 4) for the P foreground anchors of a batch: predicted (dx, dy, dw, dh), anchors and
matched boxes in XYXY pixels. Returns the float32 sum; P may be 0, the result is then 0 and still
connected to ``pred_deltas``, so that distributed training sees a gradient for every parameter.
"""


def encode(anchors: Tensor, gt_boxes: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Deltas (P, 4) that turn anchors (P, 4) into boxes (P, 4), both XYXY.

    As Detectron2's ``Box2BoxTransform.get_deltas``, which makes the host wait for a GPU to check its input.

    Source: Girshick et al. 2014, *Rich feature hierarchies*, appendix C.
    """
    sizes, gt_sizes = anchors[:, 2:] - anchors[:, :2], gt_boxes[:, 2:] - gt_boxes[:, :2]
    shifts = (gt_boxes[:, :2] + 0.5 * gt_sizes - anchors[:, :2] - 0.5 * sizes) / sizes
    deltas = torch.cat([shifts, torch.log(gt_sizes / sizes)], dim=1)
    # Column by column: a tensor of the weights would have to be copied to the GPU, and waited for.
    return torch.stack([weight * delta for weight, delta in zip(weights, deltas.unbind(dim=1), strict=True)], dim=1)


@BOX_LOSS_REGISTRY.register("smooth_l1")
@reads("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA")
class SmoothL1Loss:
    """Smooth L1 between predicted and encoded deltas; β = 0 is L1 (Girshick 2015, equation 3)."""

    def __init__(self, *, transform: Box2BoxTransform, beta: float) -> None:
        self.transform, self.beta = transform, beta

    def __call__(self, pred_deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """Deltas, anchors and boxes, each (P, 4), to the float32 sum ()."""
        pred_deltas = pred_deltas.to(torch.promote_types(pred_deltas.dtype, torch.float32))
        return smooth_l1_loss(
            pred_deltas, encode(anchors, gt_boxes, self.transform.weights), beta=self.beta, reduction="sum"
        )


class _IoULoss:
    """A loss between decoded and ground-truth boxes."""

    function = None

    def __init__(self, *, transform: Box2BoxTransform) -> None:
        self.transform = transform

    def __call__(self, pred_deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """Deltas, anchors and boxes, each (P, 4), to the float32 sum ()."""
        return type(self).function(self.transform.apply_deltas(pred_deltas, anchors), gt_boxes, reduction="sum")


@BOX_LOSS_REGISTRY.register("giou")
@reads()
class GIoULoss(_IoULoss):
    """1 - GIoU (Rezatofighi et al. 2019)."""

    function = staticmethod(generalized_box_iou_loss)


@BOX_LOSS_REGISTRY.register("diou")
@reads()
class DIoULoss(_IoULoss):
    """1 - DIoU (Zheng et al. 2020)."""

    function = staticmethod(distance_box_iou_loss)


@BOX_LOSS_REGISTRY.register("ciou")
@reads()
class CIoULoss(_IoULoss):
    """1 - CIoU (Zheng et al. 2020)."""

    function = staticmethod(complete_box_iou_loss)
