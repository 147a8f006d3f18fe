"""Losses of the box subnet, over foreground anchors only."""

import torch
from fvcore.nn import giou_loss, smooth_l1_loss
from torch import Tensor

from detectron2.layers import ciou_loss, diou_loss
from detectron2.modeling.box_regression import Box2BoxTransform

from retina_plugin.registry import SlotRegistry

BOX_LOSS_REGISTRY = SlotRegistry("box loss", "MODEL.RETINANET.BBOX_REG_LOSS_TYPE")
"""Classes constructed with ``transform`` and ``beta``, called as ``loss(pred_deltas, anchors, gt_boxes)``.

All three are (P, 4) for the P foreground anchors of a batch: predicted (dx, dy, dw, dh), anchors and
matched boxes in XYXY pixels. Returns the float32 sum; P may be 0, the result is then 0 and still
connected to ``pred_deltas``, so that distributed training sees a gradient for every parameter.
"""


@BOX_LOSS_REGISTRY.register("smooth_l1")
class SmoothL1Loss:
    """Smooth L1 between predicted and encoded deltas; β = 0 is L1 (Girshick 2015, equation 3)."""

    def __init__(self, *, transform: Box2BoxTransform, beta: float) -> None:
        self.transform, self.beta = transform, beta

    def __call__(self, pred_deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """Deltas, anchors and boxes, each (P, 4), to the float32 sum ()."""
        pred_deltas = pred_deltas.to(torch.promote_types(pred_deltas.dtype, torch.float32))
        return smooth_l1_loss(pred_deltas, self.transform.get_deltas(anchors, gt_boxes), beta=self.beta, reduction="sum")


class _IoULoss:
    """A loss between decoded and ground-truth boxes."""

    function = None

    def __init__(self, *, transform: Box2BoxTransform, beta: float) -> None:
        self.transform = transform

    def __call__(self, pred_deltas: Tensor, anchors: Tensor, gt_boxes: Tensor) -> Tensor:
        """Deltas, anchors and boxes, each (P, 4), to the float32 sum ()."""
        return type(self).function(self.transform.apply_deltas(pred_deltas, anchors), gt_boxes, reduction="sum")


@BOX_LOSS_REGISTRY.register("giou")
class GIoULoss(_IoULoss):
    """1 - GIoU (Rezatofighi et al. 2019)."""

    function = staticmethod(giou_loss)


@BOX_LOSS_REGISTRY.register("diou")
class DIoULoss(_IoULoss):
    """1 - DIoU (Zheng et al. 2020)."""

    function = staticmethod(diou_loss)


@BOX_LOSS_REGISTRY.register("ciou")
class CIoULoss(_IoULoss):
    """1 - CIoU (Zheng et al. 2020)."""

    function = staticmethod(ciou_loss)
