"""Adaptive training sample selection."""

import torch
from torch import Tensor

from retina_plugin.modeling.assignment import ASSIGNER_REGISTRY
from retina_plugin.registry import reads

BOXES_AT_ONCE = 64
"""Boxes whose distances to all anchors are in memory at once."""

INSIDE = 0.01
"""Pixels by which the centre of an anchor must lie inside its box, exclusive, as in the authors' code."""


@ASSIGNER_REGISTRY.register("atss")
@reads("MODEL.RETINANET.ATSS_TOPK")
class ATSSAssigner:
    """Assigner that labels as foreground the anchors near the centre of a box that overlap it more than most others.

    For each box, the anchors of the ``atss_topk`` nearest locations of every level are candidates, and the mean plus
    the standard deviation of their overlaps is its threshold. Candidates that reach it and have their centre inside the
    box are foreground; an anchor that several boxes select is matched with the one it overlaps most.

    Args:
        atss_topk: locations per level.
        num_anchors: A, anchors per location.

    Source: Zhang et al. 2020, *Bridging the Gap Between Anchor-based and Anchor-free Detection via
    Adaptive Training Sample Selection*, algorithm 1; with several anchors per location, as in the authors' code.
    """

    def __init__(self, *, atss_topk: int, num_anchors: int) -> None:
        if atss_topk < 1:
            raise ValueError(f"MODEL.RETINANET.ATSS_TOPK must be at least 1; got {atss_topk}")
        self.candidates = atss_topk * num_anchors

    @torch.no_grad()
    def __call__(
        self, anchors: list[Tensor], gt_boxes: list[Tensor], gt_classes: list[Tensor], num_classes: int
    ) -> tuple[Tensor, Tensor]:
        """Return labels (N, R) and matched indices (N, R), see ``assignment.Assigner``."""
        num_anchors, device = sum(len(level) for level in anchors), anchors[0].device
        gt_labels = torch.full((len(gt_boxes), num_anchors), num_classes, device=device)
        matched_idxs = torch.zeros_like(gt_labels)
        offset = 0
        for i, (boxes, classes) in enumerate(zip(gt_boxes, gt_classes, strict=True)):
            if len(boxes):
                iou, box = self._best_box(anchors, num_anchors, boxes)
                gt_labels[i] = torch.where(iou > 0, classes[box], num_classes)
                matched_idxs[i] = box + offset
                offset += len(boxes)
        return gt_labels, matched_idxs

    def _best_box(self, anchors: list[Tensor], num_anchors: int, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest IoU (R,) of each anchor with the boxes (M, 4) that select it, or 0, and that box (R,)."""
        pairs = [self._selected(anchors, part) for part in boxes.split(BOXES_AT_ONCE)]
        anchor, iou = (torch.cat([pair[i].flatten() for pair in pairs]) for i in range(2))
        box = torch.arange(len(boxes), device=boxes.device).repeat_interleave(len(anchor) // len(boxes))
        best = iou.new_zeros(num_anchors).scatter_reduce(0, anchor, iou, "amax")
        first = torch.full_like(best, len(boxes), dtype=torch.int64)
        first.scatter_reduce_(0, anchor, torch.where(iou == best[anchor], box, len(boxes)), "amin")
        return best, first.clamp(max=len(boxes) - 1)

    def _selected(self, anchors: list[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the candidates (m, C) of boxes (m, 4), indices over all levels, and their IoU, 0 if not selected."""
        centres, start, nearest = (boxes[:, :2] + boxes[:, 2:]) / 2, 0, []
        for level in anchors:
            level_centres = (level[:, :2] + level[:, 2:]) / 2
            distance = torch.cdist(centres, level_centres, compute_mode="donot_use_mm_for_euclid_dist")  # (m, Ri)
            nearest.append(distance.topk(min(self.candidates, len(level)), largest=False).indices + start)
            start += len(level)
        candidates = torch.cat(nearest, dim=1)
        near, boxes = torch.cat(anchors)[candidates], boxes.unsqueeze(1)  # (m, C, 4), (m, 1, 4)
        extent = torch.minimum(near[..., 2:], boxes[..., 2:]) - torch.maximum(near[..., :2], boxes[..., :2])
        intersection = extent.clamp(min=0).prod(dim=-1)
        near_area, box_area = ((x[..., 2:] - x[..., :2]).prod(dim=-1) for x in (near, boxes))  # (m, C), (m, 1)
        iou = intersection / (near_area + box_area - intersection)
        threshold = (iou.mean(dim=1) + iou.std(dim=1)).unsqueeze(1)
        centre = (near[..., :2] + near[..., 2:]) / 2
        inside = torch.cat([centre - boxes[..., :2], boxes[..., 2:] - centre], dim=-1).amin(dim=-1) > INSIDE
        return candidates, iou * ((iou >= threshold) & inside)
