"""Which detections are right, which are not, and what was missed."""

from typing import NamedTuple

import numpy as np
import torch
from torchvision.ops import box_iou


class ImageErrors(NamedTuple):
    """Detections of one image against its ground truth.

    Attributes:
        right: (D,) bool, matched with a box of the same class.
        missed: (M,) bool, boxes that no detection matches.
    """

    right: np.ndarray
    missed: np.ndarray

    @property
    def count(self) -> int:
        """Wrong detections and missed boxes."""
        return int((~self.right).sum() + self.missed.sum())


def image_errors(
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    gt_boxes: np.ndarray,
    gt_classes: np.ndarray,
    *,
    iou: float = 0.5,
) -> ImageErrors:
    """Match the detections of one image with its boxes, the most certain first, each box once.

    Args:
        boxes, classes, scores: (D, 4) XYXY, (D,), (D,).
        gt_boxes, gt_classes: (M, 4), (M,), without crowds.
        iou: that a match needs.

    Source: the matching of Pascal VOC's evaluation (Everingham et al. 2010).
    """
    right, missed = np.zeros(len(boxes), dtype=bool), np.ones(len(gt_boxes), dtype=bool)
    if len(boxes) and len(gt_boxes):
        overlap = box_iou(
            torch.as_tensor(boxes, dtype=torch.float64), torch.as_tensor(gt_boxes, dtype=torch.float64)
        ).numpy()
        overlap[np.asarray(classes)[:, None] != np.asarray(gt_classes)[None]] = 0
        for i in np.argsort(-np.asarray(scores), kind="stable"):
            j = int(np.where(missed, overlap[i], -1).argmax())
            if missed[j] and overlap[i, j] >= iou:
                right[i], missed[j] = True, False
    return ImageErrors(right, missed)
