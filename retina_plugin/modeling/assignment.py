"""Assignment of anchors to ground-truth boxes."""

from typing import Protocol

import torch
from torch import Tensor

from retina_plugin.registry import SlotRegistry, reads

ASSIGNER_REGISTRY = SlotRegistry("assigner", "MODEL.RETINANET.ASSIGNER", section="MODEL.ASSIGNER")
"""Called as ``assigner(anchors, gt_boxes, gt_classes, num_classes)``, see :class:`Assigner`.

Constructors are keyword-only and declare only the options they need: ``thresholds``, ``labels``,
``allow_low_quality_matches``, ``atss_topk`` (MODEL.RETINANET.*) and ``num_anchors``, A.
"""

CHUNK_CPU, CHUNK_GPU = 2**12, 2**24
"""On a CPU, anchors per chunk (a few rows of the finest level, which few boxes reach); on a GPU, overlaps per chunk."""


class Assigner(Protocol):
    """Contract of an assigner."""

    def __call__(
        self, anchors: list[Tensor], gt_boxes: list[Tensor], gt_classes: list[Tensor], num_classes: int
    ) -> tuple[Tensor, Tensor]:
        """Label the anchors of a batch.

        Args:
            anchors: L tensors (Ri, 4), XYXY pixels of the network input, the same for all images.
            gt_boxes: N tensors (Mi, 4), the same; Mi may be 0.
            gt_classes: N tensors (Mi,) int64 in 0..K-1.
            num_classes: K.

        Returns:
            gt_labels (N, R) int64: -1 ignore, 0..K-1 class, K background; and matched_idxs (N, R) int64: indices into
            the concatenated boxes of the batch (``torch.cat(gt_boxes)``), meaningful only where the label is a class.
        """


def overlaps(gt_boxes: Tensor, anchors: Tensor) -> Tensor:
    """Compute the IoU of every box with every anchor.

    Args:
        gt_boxes: (4, M), one row per coordinate of XYXY.
        anchors: (4, R), the same.

    Returns:
        (M, R), in 0..1, bit-identical to Detectron2's ``pairwise_iou``.
    """
    gx1, gy1, gx2, gy2 = gt_boxes.unsqueeze(-1)  # (M, 1) each
    ax1, ay1, ax2, ay2 = anchors
    intersection = torch.minimum(gx2, ax2).sub_(torch.maximum(gx1, ax1)).clamp_(min=0)
    intersection.mul_(torch.minimum(gy2, ay2).sub_(torch.maximum(gy1, ay1)).clamp_(min=0))
    union = ((gx2 - gx1) * (gy2 - gy1) + (ax2 - ax1) * (ay2 - ay1)).sub_(intersection)
    return intersection.div_(union)


class ChunkedOverlaps:
    """Maxima of the (M, R) matrix of overlaps, computed without storing the matrix.

    On a CPU, a chunk of anchors is compared only with the boxes that reach its bounding box; anchors are ordered row by
    row, so most boxes do not. On a GPU, chunks are as large as memory allows and compared with all boxes, because
    choosing would synchronise with the device.

    Args:
        anchors: (R, 4), XYXY pixels.
    """

    def __init__(self, anchors: Tensor) -> None:
        self.anchors, self.choose = anchors.T.contiguous(), anchors.device.type == "cpu"  # (4, R)

    def _chunks(self, num_boxes: int) -> tuple[Tensor, ...]:
        """Split the anchors into chunks (4, r)."""
        size = CHUNK_CPU if self.choose else max(1, CHUNK_GPU // max(1, num_boxes))
        return self.anchors.split(size, dim=1)

    def __call__(self, gt_boxes: Tensor, *, find_best: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Find the best box of each anchor and, with ``find_best``, the best anchors of each box.

        Args:
            gt_boxes: (M, 4), M >= 1.
            find_best: whether to compute the third result.

        Returns:
            iou (R,), the largest overlap of each anchor with a box; box (R,) int64, the first box with that overlap;
            is_best (R,) bool, whether no other anchor overlaps some box more (all anchors that tie; a box that overlaps
            no anchor has no best one); all False without ``find_best``.
        """
        boxes = gt_boxes.T.contiguous()  # (4, M)
        chunks = self._chunks(len(gt_boxes))
        ious, indices = [], []
        largest = boxes.new_zeros(len(gt_boxes), len(chunks))  # of each box in each chunk
        for i, chunk in enumerate(chunks):
            reached = self._reached(boxes, chunk) if self.choose else None
            if reached is not None and len(reached) == 0:
                ious.append(chunk.new_zeros(chunk.shape[1]))
                indices.append(torch.zeros(chunk.shape[1], dtype=torch.int64))
                continue
            compared = slice(None) if reached is None else reached
            matrix = overlaps(boxes[:, compared], chunk)
            iou, index = matrix.max(dim=0)
            ious.append(iou)
            indices.append(index if reached is None else reached[index])
            if find_best:
                largest[compared, i] = matrix.amax(dim=1)
        none_best = torch.zeros_like(self.anchors[0], dtype=torch.bool)
        is_best = self._best(boxes, chunks, largest) if find_best else none_best
        return torch.cat(ious), torch.cat(indices), is_best

    @staticmethod
    def _reached(boxes: Tensor, chunk: Tensor) -> Tensor:
        """Return the indices of the boxes (4, M) that intersect the bounding box of a chunk (4, r)."""
        (left, top), (right, bottom) = chunk[:2].amin(dim=1).tolist(), chunk[2:].amax(dim=1).tolist()
        return ((boxes[0] < right) & (boxes[1] < bottom) & (boxes[2] > left) & (boxes[3] > top)).nonzero().squeeze(1)

    def _best(self, boxes: Tensor, chunks: tuple[Tensor, ...], largest: Tensor) -> Tensor:
        """Return whether each anchor is the best of some box (R,); overlaps are recomputed where the best ones are."""
        best = largest.amax(dim=1)  # (M,)
        in_chunk = (largest == best.unsqueeze(1)) & (best > 0).unsqueeze(1)  # (M, chunks)
        result = []
        for i, chunk in enumerate(chunks):
            members = in_chunk[:, i].nonzero().squeeze(1) if self.choose else slice(None)
            equal = overlaps(boxes[:, members], chunk) == best[members].unsqueeze(1)
            result.append((equal & in_chunk[members, i].unsqueeze(1)).any(dim=0))
        return torch.cat(result)


def ignore_inside(gt_labels: Tensor, anchors: Tensor, regions: Tensor, num_classes: int) -> None:
    """Ignore the background anchors of one image that lie in an unlabelled region, in place.

    Args:
        gt_labels: (R,) int64, changed from K to -1.
        anchors: (R, 4), XYXY pixels of the network input.
        regions: (G, 4), the same, such as crowds. An anchor lies in a region if more than half of its area does.
        num_classes: K.

    Source: COCO's evaluation, which matches a detection with a crowd by the share of the detection's area.
    """
    inside = torch.zeros_like(gt_labels, dtype=torch.bool)
    half = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1) / 2
    for region in regions:
        extent = torch.minimum(anchors[:, 2:], region[2:]) - torch.maximum(anchors[:, :2], region[:2])
        inside |= extent.clamp_(min=0).prod(dim=1) > half
    gt_labels.masked_fill_(inside & (gt_labels == num_classes), -1)


@ASSIGNER_REGISTRY.register("max_iou")
@reads("MODEL.RETINANET.IOU_THRESHOLDS", "MODEL.RETINANET.IOU_LABELS", "MODEL.RETINANET.ALLOW_LOW_QUALITY_MATCHES")
class MaxIoUAssigner:
    """Assigner that labels an anchor by its largest overlap with a ground-truth box.

    Args:
        thresholds: IoU bounds, ascending; [0.4, 0.5] in the paper.
        labels: label below, between and above them: 0 background, -1 ignored, 1 foreground.
        allow_low_quality_matches: also label as foreground, for every box, the anchor(s) that overlap it most, even if
            the overlap is small.

    Source: Lin et al. 2017, section 4, "Anchors"; the low-quality matches are those of Faster R-CNN
    (Ren et al. 2015, section 3.1.2 (i)), which Detectron2 always uses and the paper does not mention.
    Equal to Detectron2's ``Matcher`` except for a box that overlaps no anchor at all: there it makes every anchor
    without overlap foreground, here none.
    """

    def __init__(self, *, thresholds: list[float], labels: list[int], allow_low_quality_matches: bool) -> None:
        is_valid = len(labels) == len(thresholds) + 1 and list(thresholds) == sorted(thresholds)
        if not is_valid or not set(labels) <= {-1, 0, 1}:
            raise ValueError(
                "MODEL.RETINANET.IOU_THRESHOLDS must be ascending, and IOU_LABELS one entry longer, of -1, 0 and 1; "
                f"got {list(thresholds)} and {list(labels)}"
            )
        self.thresholds, self.labels = list(thresholds), list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    @torch.no_grad()
    def __call__(
        self, anchors: list[Tensor], gt_boxes: list[Tensor], gt_classes: list[Tensor], num_classes: int
    ) -> tuple[Tensor, Tensor]:
        """Map anchors L x (Ri, 4) and boxes N x (Mi, 4) to labels (N, R) and indices (N, R), see :class:`Assigner`."""
        everything = torch.cat(anchors)  # (R, 4)
        find = ChunkedOverlaps(everything)
        gt_labels = torch.full((len(gt_boxes), len(everything)), num_classes, device=everything.device)
        matched_idxs = torch.zeros_like(gt_labels)
        offset = 0
        for i, (boxes, classes) in enumerate(zip(gt_boxes, gt_classes, strict=True)):
            if len(boxes):
                iou, box, is_best = find(boxes, find_best=self.allow_low_quality_matches)
                gt_labels[i] = self._label(iou, classes[box], is_best, num_classes)
                matched_idxs[i] = box + offset
                offset += len(boxes)
            elif self.labels[0] != 0:
                gt_labels[i] = -1
        return gt_labels, matched_idxs

    def _label(self, iou: Tensor, classes: Tensor, is_best: Tensor, num_classes: int) -> Tensor:
        """Return labels (R,) from the largest IoU (R,), the class of its box (R,), and low-quality matches (R,)."""
        kind = torch.full_like(classes, self.labels[0])
        for threshold, label in zip(self.thresholds, self.labels[1:], strict=True):
            kind.masked_fill_(iou >= threshold, label)
        kind.masked_fill_(is_best, 1)
        return torch.where(kind == 1, classes, torch.where(kind == 0, num_classes, -1))
