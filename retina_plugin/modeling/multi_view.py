"""Detection in several views of an image (tiles, scales, mirrored copies), merged into one result."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.structures import Boxes, Instances

from retina_plugin.modeling.postprocess import classwise_nms, soft_nms

VIEWS_AT_ONCE = 4
"""Views of equal size that go through the network together."""

BORDER = 0.01
"""A box is cut by its tile if it ends within this fraction of the tile's side from its border."""

INSIDE = 0.7
"""A box that was cut is dropped if at least this fraction of it lies in a box that was not."""

PARTS_AT_ONCE = 256
"""Boxes that were cut and are compared with all others at once, which bounds the memory."""

ALIGNED = 0.5
"""Two boxes that neighbouring tiles cut are joined if their extents along the seam have at least this IoU."""


class MultiViewModel(nn.Module):
    """A detector that looks at the "views" of its inputs and merges what it detects in them.

    Inputs without views go to the detector as they are.

    Args:
        model: maps a list of dicts with "image", "height", "width" to a list of {"instances": Instances}.
        nms_thresh: IoU above which the lower-scoring of two boxes of a class is dropped; with ``soft``, only the scores
            of boxes of different views lower each other, since the model has compared those of one view.
        max_detections: most detections to return per image; None: as many as there are.
        class_agnostic, soft, soft_sigma, score_thresh: see :func:`retina_plugin.modeling.postprocess.detect`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        nms_thresh: float,
        max_detections: int | None,
        class_agnostic: bool = False,
        soft: str = "",
        soft_sigma: float = 0.5,
        score_thresh: float = 0.05,
    ) -> None:
        super().__init__()
        self.model = model
        self.nms_thresh, self.max_detections = nms_thresh, max_detections
        self.class_agnostic, self.soft, self.soft_sigma = class_agnostic, soft, soft_sigma
        self.score_thresh = score_thresh

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Instances]]:
        """Return the detections of each input, in pixels of its ("height", "width")."""
        if not any("views" in x for x in batched_inputs):
            return self.model(batched_inputs)
        return [{"instances": self._detect(x["views"])} for x in batched_inputs]

    def _detect(self, views: Sequence[dict[str, Any]]) -> Instances:
        """Return the merged detections in the views of one image."""
        found = [result["instances"] for batch in _batches(views) for result in self.model(batch)]
        boxes = torch.cat([to_image(x.pred_boxes.tensor, view) for x, view in zip(found, views, strict=True)])
        scores, classes = torch.cat([x.scores for x in found]), torch.cat([x.pred_classes for x in found])
        counts = torch.tensor([len(x) for x in found], device=boxes.device)
        regions = torch.tensor([view["region"] for view in views], dtype=boxes.dtype, device=boxes.device)
        width, height = (int(side) for side in regions.amax(dim=0)[2:])
        groups = torch.zeros_like(classes) if self.class_agnostic else classes
        seen_in = torch.arange(len(views), device=boxes.device).repeat_interleave(counts)
        if len(regions.unique(dim=0)) > 1:
            tiles = regions.repeat_interleave(counts, dim=0)
            boxes, scores, kept = merge_tiles(boxes, scores, groups, tiles, (height, width))
            classes, groups, seen_in = classes[kept], groups[kept], seen_in[kept]
        most = len(boxes) if self.max_detections is None else self.max_detections
        if self.soft:
            keep, scores = soft_nms(
                boxes,
                scores,
                groups,
                kind=self.soft,
                nms_thresh=self.nms_thresh,
                sigma=self.soft_sigma,
                score_thresh=self.score_thresh,
                most=most,
                views=seen_in,
            )
        else:
            keep = classwise_nms(boxes, scores, groups, self.nms_thresh)[:most]
            scores = scores[keep]
        return Instances((height, width), pred_boxes=Boxes(boxes[keep]), scores=scores, pred_classes=classes[keep])


def _batches(views: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield successive views of equal size, at most ``VIEWS_AT_ONCE``, so that no padding changes what is detected."""
    batch: list[dict[str, Any]] = []
    for view in views:
        if batch and (len(batch) == VIEWS_AT_ONCE or view["image"].shape != batch[0]["image"].shape):
            yield batch
            batch = []
        batch.append(view)
    if batch:
        yield batch


def to_image(boxes: Tensor, view: dict[str, Any]) -> Tensor:
    """Return boxes (D, 4) in pixels of a view's region as boxes in pixels of the image."""
    left, top, right, _ = view["region"]
    if view["flipped"]:
        width = right - left
        boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
    return boxes + boxes.new_tensor([left, top, left, top])


def merge_tiles(
    boxes: Tensor, scores: Tensor, classes: Tensor, regions: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Drop the parts of objects that a neighbouring tile shows whole, and join the parts of the others.

    Args:
        boxes: (D, 4) XYXY, pixels of the image.
        scores: (D,).
        classes: (D,).
        regions: (D, 4), the tile of each box.
        image_size: (height, width), pixels.

    Returns:
        Boxes (D', 4), their scores (D',), and the indices (D',) of the boxes that they come from.
    """
    cut = cut_sides(boxes, regions, image_size)
    is_cut = cut.any(dim=1)
    inside = _lies_in(boxes, classes, is_cut, ~is_cut)
    order = torch.argsort(scores, descending=True, stable=True)
    order = order[~inside[order]]
    boxes, classes, cut, regions = boxes[order].clone(), classes[order], cut[order].clone(), regions[order]
    gone = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for i in cut.any(dim=1).nonzero().squeeze(1).tolist():
        while not gone[i] and (partner := _partner(i, boxes, classes, cut, regions, gone)) is not None:
            j, side = partner
            boxes[i, :2] = torch.minimum(boxes[i, :2], boxes[j, :2])
            boxes[i, 2:] = torch.maximum(boxes[i, 2:], boxes[j, 2:])
            ends = cut[i] | cut[j]
            ends[side], ends[(side + 2) % 4] = cut[j, side], cut[i, (side + 2) % 4]
            cut[i], gone[j] = ends, True
    order, boxes, classes, cut = order[~gone], boxes[~gone], classes[~gone], cut[~gone]
    # Now that long objects are whole, what is left of them in other tiles lies in a larger box.
    left = ~_lies_in(boxes, classes, cut.any(dim=1), torch.ones_like(gone[~gone]))
    return boxes[left], scores[order[left]], order[left]


def cut_sides(boxes: Tensor, regions: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Return (D, 4) bool, whether each box (D, 4) ends at the left, top, right, bottom border of its tile (D, 4).

    The borders of the image, of (height, width) pixels, cut nothing.
    """
    outermost = regions.new_tensor([0, 0, image_size[1], image_size[0]])
    near = BORDER * (regions[:, 2:] - regions[:, :2]).repeat(1, 2)
    return ((boxes - regions).abs() <= near) & (regions != outermost)


def _lies_in(boxes: Tensor, classes: Tensor, parts: Tensor, containers: Tensor) -> Tensor:
    """Return (D,) bool, whether a box of ``parts`` lies mostly in a larger one of its class of ``containers``.

    Args:
        boxes: (D, 4).
        classes: (D,).
        parts: (D,) bool.
        containers: (D,) bool.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    inside = torch.zeros_like(parts)
    for some in parts.nonzero().squeeze(1).split(PARTS_AT_ONCE):
        low = torch.maximum(boxes[some, None, :2], boxes[None, :, :2])
        high = torch.minimum(boxes[some, None, 2:], boxes[None, :, 2:])
        shared = (high - low).clamp(min=0).prod(dim=2)
        container = containers & (classes[some, None] == classes) & (area > area[some, None])
        inside[some] = ((shared >= INSIDE * area[some, None]) & container).any(dim=1)
    return inside


def _partner(
    i: int, boxes: Tensor, classes: Tensor, cut: Tensor, regions: Tensor, gone: Tensor
) -> tuple[int, int] | None:
    """Return the best box that continues box i across a border of its tile, and the side of i; None if there is none.

    It is of the same class and another tile, is cut by the facing border, overlaps box i, and their extents along the
    border agree.
    """
    low, high = torch.maximum(boxes[i, :2], boxes[:, :2]), torch.minimum(boxes[i, 2:], boxes[:, 2:])
    shared = high - low  # (D, 2), negative if they do not overlap along an axis
    extent = torch.maximum(boxes[i, 2:], boxes[:, 2:]) - torch.minimum(boxes[i, :2], boxes[:, :2])
    aligned = shared / extent >= ALIGNED
    possible = ~gone & (classes == classes[i]) & (regions != regions[i]).any(dim=1) & (shared >= 0).all(dim=1)
    for side in cut[i].nonzero().squeeze(1).tolist():
        along = 1 - side % 2  # a left or right border runs along y
        found = (possible & cut[:, (side + 2) % 4] & aligned[:, along]).nonzero()
        if len(found):
            return int(found[0]), side
    return None
