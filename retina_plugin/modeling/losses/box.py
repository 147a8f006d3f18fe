"""Losses of the box subnet, over foreground anchors only."""

from collections.abc import Callable

import torch
from fvcore.nn import smooth_l1_loss
from torch import Tensor
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from detectron2.modeling.box_regression import Box2BoxTransform

from retina_plugin.registry import SlotRegistry, reads

BOX_LOSS_REGISTRY = SlotRegistry("box loss", "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", section="MODEL.BOX_LOSS")
"""Classes called as ``loss(pred_deltas, anchors, gt_boxes)``.

Constructors are keyword-only and declare only the options they need, of ``transform`` and ``beta``. All three arguments
of the call are (P, 4) for the P foreground anchors of a batch: predicted (dx, dy, dw, dh), anchors and matched boxes in
XYXY pixels. Returns the float32 sum; if P is 0, the result is 0 and still connected to ``pred_deltas``, so that
distributed training finds a gradient for every parameter.
"""


def encode(anchors: Tensor, gt_boxes: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Return the deltas (P, 4) that turn anchors (P, 4) into boxes (P, 4), both XYXY.

    Equal to Detectron2's ``Box2BoxTransform.get_deltas``, which synchronises with the GPU to check its input.

    Source: Girshick et al. 2014, *Rich feature hierarchies*, appendix C.
    """
    sizes, gt_sizes = anchors[:, 2:] - anchors[:, :2], gt_boxes[:, 2:] - gt_boxes[:, :2]
    shifts = (gt_boxes[:, :2] + 0.5 * gt_sizes - anchors[:, :2] - 0.5 * sizes) / sizes
    deltas = torch.cat([shifts, torch.log(gt_sizes / sizes)], dim=1)
    # Column by column: a tensor of the weights would need a synchronising copy to the GPU.
    return torch.stack([weight * delta for weight, delta in zip(weights, deltas.unbind(dim=1), strict=True)], dim=1)


@BOX_LOSS_REGISTRY.register("smooth_l1")
@reads("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA")
class SmoothL1Loss:
    """Smooth L1 between predicted and encoded deltas; β = 0 is L1 (Girshick 2015, equation 3)."""

    def __init__(self, *, transform: Box2BoxTransform, beta: float) -> None:
        self.transform, self.beta = transform, beta

    def __call__(self, pred_deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """Map deltas, anchors and boxes, each (P, 4), to the float32 sum ()."""
        pred_deltas = pred_deltas.to(torch.promote_types(pred_deltas.dtype, torch.float32))
        if to_deltas := getattr(self.transform, "to_deltas", None):  # of a head that predicts something else
            pred_deltas = to_deltas(pred_deltas)
        gt_deltas = encode(anchors, gt_boxes, self.transform.weights)
        return smooth_l1_loss(pred_deltas, gt_deltas, beta=self.beta, reduction="sum")


class _IoULoss:
    """A loss between decoded and ground-truth boxes."""

    function: Callable[..., Tensor]
    """Loss of predicted boxes (P, 4) and ground-truth boxes (P, 4), with ``reduction``."""

    def __init__(self, *, transform: Box2BoxTransform) -> None:
        self.transform = transform

    def __call__(self, pred_deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """Map deltas, anchors and boxes, each (P, 4), to the float32 sum ()."""
        return self.function(self.transform.apply_deltas(pred_deltas, anchors), gt_boxes, reduction="sum")


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
