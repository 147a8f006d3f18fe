"""From dense predictions to detections."""

import torch
from torch import Tensor

from detectron2.layers import batched_nms
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances


def decode_level(
    anchors: Tensor, logits: Tensor, deltas: Tensor, *, transform: Box2BoxTransform, score_thresh: float, topk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the confident predictions of one level of one image and decode their boxes.

    Logits are compared with the logit of the threshold, so the sigmoid is taken of the few that pass.

    Args:
        anchors: (Ri, 4) XYXY pixels of the network input.
        logits: (Ri, K).
        deltas: (Ri, 4).
        transform: the box encoding.
        score_thresh: least score, in [0, 1).
        topk: most predictions to keep, by score.

    Returns:
        boxes (D, 4), scores (D,) descending, classes (D,) int64 in 0..K-1, with D <= topk.

    Source: Lin et al. 2017, section 4, "Inference"
    """
    logits = logits.float()
    floor = torch.tensor(score_thresh, dtype=torch.float64).logit().item() if score_thresh > 0 else -float("inf")
    anchor_idxs, classes = (logits > floor).nonzero(as_tuple=True)
    scores, order = logits[anchor_idxs, classes].sigmoid().topk(min(topk, len(anchor_idxs)))
    anchor_idxs, classes = anchor_idxs[order], classes[order]
    return transform.apply_deltas(deltas[anchor_idxs], anchors[anchor_idxs]), scores, classes


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
) -> Instances:
    """Detections of one image: threshold and top-k a level, then class-wise NMS over all levels.

    Args:
        anchors, logits, deltas: L tensors each, (Ri, 4), (Ri, K), (Ri, 4).
        image_size: (height, width) of the network input without padding.
        transform, score_thresh, topk: see :func:`decode_level`.
        nms_thresh: IoU from which the lower-scoring of two boxes of a class is dropped.
        max_detections: most detections to return.

    Returns:
        ``Instances`` with ``pred_boxes`` (D, 4), ``scores`` (D,) descending, ``pred_classes`` (D,).
    """
    levels = [
        decode_level(a, x, d, transform=transform, score_thresh=score_thresh, topk=topk)
        for a, x, d in zip(anchors, logits, deltas, strict=True)
    ]
    boxes, scores, classes = (torch.cat(parts) for parts in zip(*levels))
    keep = batched_nms(boxes, scores, classes, nms_thresh)[:max_detections]
    return Instances(image_size, pred_boxes=Boxes(boxes[keep]), scores=scores[keep], pred_classes=classes[keep])
