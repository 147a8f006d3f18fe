"""Which anchor is responsible for which ground-truth box."""

from typing import Protocol

import torch
from torch import Tensor

from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou

from retina_plugin.registry import SlotRegistry

ASSIGNER_REGISTRY = SlotRegistry("assigner", "MODEL.RETINANET.ASSIGNER")
"""Called as ``assigner(anchors, gt_boxes, gt_classes, num_classes)``, see :class:`Assigner`."""


class Assigner(Protocol):
    """The contract of an assigner."""

    def __call__(self, anchors: Tensor, gt_boxes: Tensor, gt_classes: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Label the anchors of one image.

        Args:
            anchors: (R, 4), XYXY pixels of the network input.
            gt_boxes: (M, 4), the same; M may be 0.
            gt_classes: (M,) int64 in 0..K-1.
            num_classes: K.

        Returns:
            gt_labels (R,) int64: -1 ignore, 0..K-1 class, K background; and matched_idxs (R,)
            int64, the index into ``gt_boxes``, meaningful only where the label is a class.
        """


@ASSIGNER_REGISTRY.register("max_iou")
class MaxIoUAssigner:
    """Label an anchor by its best overlap with a ground-truth box.

    Args:
        thresholds: IoU bounds, ascending; [0.4, 0.5] in the paper.
        labels: what lies below, between and above them: 0 background, -1 ignored, 1 foreground.
        allow_low_quality_matches: also make foreground, for every box, the anchor(s) that overlap
            it most, however little.

    Source: Lin et al. 2017, section 4, "Anchors"; the low-quality matches are those of Faster R-CNN
    (Ren et al. 2015, section 3.1.2 (i)), which Detectron2 always uses and the paper does not mention.
    """

    def __init__(self, *, thresholds: list[float], labels: list[int], allow_low_quality_matches: bool) -> None:
        if len(labels) != len(thresholds) + 1 or list(thresholds) != sorted(thresholds):
            raise ValueError(
                "MODEL.RETINANET.IOU_THRESHOLDS must ascend and IOU_LABELS have one entry more; "
                f"got {list(thresholds)} and {list(labels)}"
            )
        self.matcher = Matcher(list(thresholds), list(labels), allow_low_quality_matches=allow_low_quality_matches)

    @torch.no_grad()
    def __call__(self, anchors: Tensor, gt_boxes: Tensor, gt_classes: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """See :class:`Assigner`: anchors (R, 4) and gt_boxes (M, 4) to labels (R,) and indices (R,)."""
        matched_idxs, match_labels = self.matcher(pairwise_iou(Boxes(gt_boxes), Boxes(anchors)))  # (M, R) IoU
        if len(gt_boxes) == 0:
            gt_labels = torch.full_like(matched_idxs, num_classes)
        else:
            gt_labels = gt_classes[matched_idxs]
            gt_labels[match_labels == 0] = num_classes
        gt_labels[match_labels == -1] = -1
        return gt_labels, matched_idxs
