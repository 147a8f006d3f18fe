"""The losses of a batch in parts: of each level and of each class."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from retina_plugin.modeling.losses.dense import ClassTargets


@torch.no_grad()
def loss_details(
    logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Tensor],
    targets: ClassTargets,
    *,
    cls_loss: Callable,
    box_loss: Callable,
    class_names: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Both losses over the anchors of each level alone, and the classification loss over the logits of each class alone.

    Of a loss that depends on p_t alone the parts add up to the whole; one that chooses or weighs anchors by the others (ohem, ghm)
    chooses in each part anew, and they do not.

    Args:
        logits, deltas: L x (N, Ri, K) and L x (N, Ri, 4).
        anchors: L x (Ri, 4), XYXY pixels.
        targets: of the batch.
        cls_loss, box_loss: of ``CLS_LOSS_REGISTRY`` and ``BOX_LOSS_REGISTRY``.
        class_names: K of them; None: their numbers.

    Returns:
        "loss_cls/level0", "loss_box_reg/level0", ... and "loss_cls/<class>": sums, before any normaliser; without what a loss cannot give alone.
    """
    image_idxs, anchor_idxs = targets.foreground
    found, start = {}, 0
    for i, (x, delta, level) in enumerate(zip(logits, deltas, anchors, strict=True)):
        inside = (anchor_idxs >= start) & (anchor_idxs < start + x.shape[1])
        rows, columns = image_idxs[inside], anchor_idxs[inside] - start
        part = ClassTargets(
            targets.labels[:, start : start + x.shape[1]],
            (rows, columns),
            targets.gt_boxes[inside],
            _shifted(targets.decode, start),
        )
        found[f"loss_cls/level{i}"] = cls_loss([x], part)
        found[f"loss_box_reg/level{i}"] = box_loss(delta[rows, columns], level[columns], targets.gt_boxes[inside])
        start += x.shape[1]
    num_classes = logits[0].shape[-1]
    for k, name in enumerate(class_names or map(str, range(num_classes))):
        # One class against the rest: 0 where the label is k, 1, which is background, elsewhere.
        labels = torch.where(targets.labels < 0, targets.labels, (targets.labels != k).to(targets.labels.dtype))
        mine = targets.labels[image_idxs, anchor_idxs] == k
        part = ClassTargets(labels, (image_idxs[mine], anchor_idxs[mine]), targets.gt_boxes[mine], targets.decode)
        found[f"loss_cls/{name}"] = cls_loss([x[..., k : k + 1].contiguous() for x in logits], part)
    return found


def _shifted(decode: Callable | None, start: int) -> Callable | None:
    return None if decode is None else lambda images, anchors: decode(images, anchors + start)
