"""Post-processing of dense predictions into detections."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou, clip_boxes_to_image, nms

from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances


class Predictions(NamedTuple):
    """Raw predictions for a batch of N images.

    Args:
        anchors: L ``Boxes`` of (Ri, 4), XYXY pixels of the network input, the same for all images; shared: do not
            modify them.
        logits: L x (N, Ri, K), in the dtype of the convolutions.
        deltas: L x (N, Ri, 4), the same.
    """

    anchors: list[Boxes]
    logits: list[Tensor]
    deltas: list[Tensor]


def best_logits(logits: Tensor, *, floor: float, topk: int) -> tuple[Tensor, Tensor]:
    """Return the largest logits of one level of one image.

    Args:
        logits: (Ri, K), of any float dtype.
        floor: logits up to it are dropped, but not on a GPU, where this would synchronise at every level.
        topk: most logits to keep.

    Returns:
        values (D,) float32, descending, and their positions (D,) int64 in the flattened logits, D <= topk.
    """
    num_classes = logits.shape[1]
    if logits.device.type == "cpu":
        # Most anchors have no class above the floor: drop them first, and examine only the others.
        # In float32, because in a comparison with a bf16 tensor the floor would be rounded to bf16.
        rows = (logits.amax(dim=1).float() > floor).nonzero().squeeze(1)
        close = logits[rows].float()
        row, column = (close > floor).nonzero(as_tuple=True)
        values, order = _largest(close[row, column], topk)
        return values, rows[row[order]] * num_classes + column[order]
    values, positions = _largest(logits.flatten(), topk)
    return values.float(), positions


def _largest(values: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the largest of values (D,), descending, and their positions; a trace must not fix their number."""
    if torch.jit.is_tracing():
        values, order = descending(values)
        return values[:most], order[:most]
    return values.topk(min(most, len(values)))


def descending(values: Tensor) -> tuple[Tensor, Tensor]:
    """Sort values (D,), equal ones in their order, and return their positions as well; ONNX has no stable sort."""
    if torch.onnx.is_in_onnx_export():
        return values.topk(values.shape[0])
    return values.sort(descending=True, stable=True)


def classwise_nms(boxes: Tensor, scores: Tensor, classes: Tensor, nms_thresh: float) -> Tensor:
    """Return the indices (D',) of the boxes that non-maximum suppression keeps, by descending score.

    Boxes (D, 4) of different classes (D,) are moved apart, so that one call handles all classes. This is done in
    float64, where it costs no precision (in float32 it changes overlaps in the fourth digit).
    """
    single = boxes.device.type == "mps" or torch.onnx.is_in_onnx_export()  # neither suppresses in float64
    boxes = boxes if single else boxes.double()
    everything = torch.cat([boxes.flatten(), boxes.new_zeros(1)])  # never empty
    extent = everything.max() - everything.min() + 1
    return nms(boxes + (classes * extent).unsqueeze(1), scores.to(boxes.dtype), nms_thresh)


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    *,
    kind: str,
    nms_thresh: float,
    sigma: float,
    score_thresh: float,
    most: int,
    views: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Lower the scores of boxes that overlap better ones of their class, instead of dropping them.

    Args:
        boxes: (D, 4) XYXY.
        scores: (D,).
        classes: (D,).
        kind: "linear" multiplies a score by 1 - IoU if the IoU exceeds ``nms_thresh``, "gaussian" by
            exp(-IoU² / sigma).
        nms_thresh: for "linear".
        sigma: for "gaussian".
        score_thresh: boxes whose score falls to it are dropped.
        most: most boxes to return.
        views: (D,), the view of the image in which each box was detected; boxes of one view, whose scores have been
            lowered there, leave each other alone. None: all boxes are compared.

    Returns:
        Indices (D',) of the boxes that are kept and their new scores (D',), by descending new score.

    Source: Bodla et al. 2017, *Soft-NMS -- Improving Object Detection With One Line of Code*, equations 2 and 3.
    """
    left = scores.clone()
    keep, kept_scores = [], []
    for _ in range(min(most, len(boxes))):
        best = left.argmax()
        keep.append(best)
        kept_scores.append(left[best])
        overlap = box_iou(boxes[best].unsqueeze(0), boxes).squeeze(0) * (classes == classes[best])
        if views is not None:
            overlap = overlap * (views != views[best])
        if kind == "linear":
            left = torch.where(overlap > nms_thresh, left * (1 - overlap), left)
        else:
            left = left * torch.exp(-overlap.square() / sigma)
        left[best] = -1.0
    if not keep:
        return classes.new_zeros(0), scores.new_zeros(0)
    indices, new_scores = torch.stack(keep), torch.stack(kept_scores)
    above = new_scores > score_thresh
    return indices[above], new_scores[above]


def detect(
    anchors: list[Tensor],
    logits: list[Tensor],
    deltas: list[Tensor],
    image_size: tuple[int, int],
    *,
    transform: Box2BoxTransform,
    score_thresh: float,
    topk: int,
    nms_thresh: float,
    max_detections: int,
    clip_before_nms: bool = False,
    class_agnostic: bool = False,
    soft: str = "",
    soft_sigma: float = 0.5,
) -> Instances:
    """Return the detections of one image: threshold and top-k per level, then class-wise NMS over all levels.

    Logits are compared with the logit of the threshold, so that the sigmoid is computed for few. What NMS keeps of the
    best n candidates does not depend on the others, so boxes are decoded and NMS is run for a few times
    ``max_detections`` candidates, and for more only if too few of these are kept.

    Args:
        anchors: L x (Ri, 4), XYXY pixels.
        logits: L x (Ri, K).
        deltas: L x (Ri, 4).
        image_size: (height, width) of the network input without padding.
        transform: encoding of the deltas.
        score_thresh: minimum score of a detection, exclusive; 0 <= score_thresh < 1.
        topk: most candidates per level, by score.
        nms_thresh: IoU above which the lower-scoring of two boxes of a class is dropped.
        max_detections: most detections to return.
        clip_before_nms: clip boxes to the image before NMS, as torchvision does; Detectron2 clips what NMS keeps.
        class_agnostic: NMS compares boxes of different classes as well.
        soft: "linear" or "gaussian" for :func:`soft_nms`; "" for the usual NMS.
        soft_sigma: for "gaussian".

    Returns:
        ``Instances`` with ``pred_boxes`` (D, 4), ``scores`` (D,) descending, ``pred_classes`` (D,).

    Source: Lin et al. 2017, section 4, "Inference".
    """
    floor = math.log(score_thresh / (1 - score_thresh)) if score_thresh > 0 else -math.inf
    num_classes = logits[0].shape[1]
    level_values, level_classes, level_anchors, level_deltas = [], [], [], []
    for level_a, level_x, level_d in zip(anchors, logits, deltas, strict=True):
        value, position = best_logits(level_x, floor=floor, topk=topk)
        anchor = position // num_classes
        level_values.append(value)
        level_classes.append(position % num_classes)
        level_anchors.append(level_a[anchor])
        level_deltas.append(level_d[anchor])
    values, order = descending(torch.cat(level_values))
    passed = (values > floor).nonzero().squeeze(1)  # synchronises with the GPU
    order, scores = order[passed], values[passed].sigmoid()
    classes = torch.cat(level_classes)[order]
    candidate_anchors, candidate_deltas = torch.cat(level_anchors)[order], torch.cat(level_deltas)[order]

    groups = torch.zeros_like(classes) if class_agnostic else classes

    def decode(most: int | None) -> Tensor:
        """Return the boxes (D, 4) of the best candidates."""
        boxes = transform.apply_deltas(candidate_deltas[:most].float(), candidate_anchors[:most])
        return clip_boxes_to_image(boxes, image_size) if clip_before_nms else boxes

    if soft:  # changes scores, so it needs all candidates
        boxes = decode(None)
        keep, scores = soft_nms(
            boxes,
            scores,
            groups,
            kind=soft,
            nms_thresh=nms_thresh,
            sigma=soft_sigma,
            score_thresh=score_thresh,
            most=max_detections,
        )
        return Instances(image_size, pred_boxes=Boxes(boxes[keep]), scores=scores, pred_classes=classes[keep])
    # A trace has no loop, so it takes all candidates at once.
    n = topk * len(anchors) if torch.jit.is_tracing() else 4 * max_detections
    while True:
        boxes = decode(n)
        keep = classwise_nms(boxes, scores[:n], groups[:n], nms_thresh)
        if len(keep) >= max_detections or n >= len(order):
            break
        n *= 4
    keep = keep[:max_detections]
    return Instances(image_size, pred_boxes=Boxes(boxes[keep]), scores=scores[keep], pred_classes=classes[keep])
