"""Which detections are correct, which are wrong, and which objects were missed."""

from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou


@dataclass(frozen=True)
class ImageErrors:
    """Detections of one image compared with its ground truth.

    Attributes:
        right: (D,) bool, detections matched with a box of the same class.
        missed: (M,) bool, boxes that no detection matches.
    """

    right: np.ndarray
    missed: np.ndarray

    @property
    def count(self) -> int:
        """Number of wrong detections and missed boxes."""
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
    """Match the detections of one image with its boxes in the order of descending scores, each box at most once.

    Args:
        boxes: (D, 4) XYXY, pixels.
        classes: (D,) labels.
        scores: (D,) scores.
        gt_boxes: (M, 4) XYXY, pixels, without crowds.
        gt_classes: (M,) labels.
        iou: minimum IoU of a match.

    Source: the matching of Pascal VOC's evaluation (Everingham et al. 2010).
    """
    right, missed = np.zeros(len(boxes), dtype=bool), np.ones(len(gt_boxes), dtype=bool)
    if len(boxes) and len(gt_boxes):
        found, wanted = (torch.as_tensor(x, dtype=torch.float64) for x in (boxes, gt_boxes))
        overlap = box_iou(found, wanted).numpy()
        overlap[np.asarray(classes)[:, None] != np.asarray(gt_classes)[None]] = 0
        for i in np.argsort(-np.asarray(scores), kind="stable"):
            j = int(np.where(missed, overlap[i], -1).argmax())
            if missed[j] and overlap[i, j] >= iou:
                right[i], missed[j] = True, False
    return ImageErrors(right, missed)
