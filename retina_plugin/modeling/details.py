"""The losses of a batch, split by level and by class."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from retina_plugin.modeling.losses.dense import ClassTargets, Decode


@torch.no_grad()
def loss_details(
    logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Tensor],
    targets: ClassTargets,
    *,
    cls_loss: Callable[[list[Tensor], ClassTargets], Tensor],
    box_loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    class_names: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Compute both losses over the anchors of each level, and the classification loss over the logits of each class.

    The parts of a loss that depends on p_t alone add up to the whole loss. A loss that selects or weights anchors by
    comparing them (ohem, ghm) does so within each part, so its parts do not add up.

    Args:
        logits: L x (N, Ri, K).
        deltas: L x (N, Ri, 4).
        anchors: L x (Ri, 4), XYXY pixels.
        targets: targets of the batch, with its foreground.
        cls_loss: a loss of ``CLS_LOSS_REGISTRY``.
        box_loss: a loss of ``BOX_LOSS_REGISTRY``.
        class_names: K names; None: the class indices.

    Returns:
        Scalars (): "loss_cls/level0", "loss_box_reg/level0", ... and "loss_cls/<class>", before division by any
        normaliser.
    """
    (image_idxs, anchor_idxs), gt_boxes = targets.foreground_idxs(), targets.matched_boxes()
    found, start = {}, 0
    for i, (x, delta, level) in enumerate(zip(logits, deltas, anchors, strict=True)):
        inside = (anchor_idxs >= start) & (anchor_idxs < start + x.shape[1])
        rows, columns = image_idxs[inside], anchor_idxs[inside] - start
        part = ClassTargets(
            targets.labels[:, start : start + x.shape[1]],
            (rows, columns),
            gt_boxes[inside],
            _shifted(targets.decode, start),
        )
        found[f"loss_cls/level{i}"] = cls_loss([x], part)
        found[f"loss_box_reg/level{i}"] = box_loss(delta[rows, columns], level[columns], gt_boxes[inside])
        start += x.shape[1]
    num_classes = logits[0].shape[-1]
    for k, name in enumerate(class_names or map(str, range(num_classes))):
        # One class against the rest: 0 where the label is k; elsewhere 1, which is background if K is 1.
        labels = torch.where(targets.labels < 0, targets.labels, (targets.labels != k).to(targets.labels.dtype))
        mine = targets.labels[image_idxs, anchor_idxs] == k
        part = ClassTargets(labels, (image_idxs[mine], anchor_idxs[mine]), gt_boxes[mine], targets.decode)
        found[f"loss_cls/{name}"] = cls_loss([x[..., k : k + 1].contiguous() for x in logits], part)
    return found


def _shifted(decode: Decode | None, start: int) -> Decode | None:
    """Return ``decode`` for anchor indices that count from the anchor ``start``."""
    if decode is None:
        return None
    whole = decode  # keeps its narrowed type inside the lambda
    return lambda image_idxs, anchor_idxs: whole(image_idxs, anchor_idxs + start)


def logged_details(
    details: dict[str, Tensor], level_names: Sequence[str], normalizer: Tensor | float, *, cls_is_mean: bool
) -> dict[str, float]:
    """Return the values of :func:`loss_details` as they are logged: normalised, with the names of the levels.

    Args:
        details: scalars () by name; classes are named by their index.
        level_names: L names, such as "p3".
        normalizer: scalar () by which sums are divided.
        cls_is_mean: whether the classification loss is a mean, which is not divided.

    Returns:
        Values by "loss_cls/p3", "loss_box_reg/p3", ... and "loss_cls/class 0", ...

    Example:
        >>> details = {"loss_cls/level0": torch.tensor(4.0), "loss_cls/1": torch.tensor(1.0)}
        >>> logged_details(details, ["p3"], 2, cls_is_mean=False)
        {'loss_cls/p3': 2.0, 'loss_cls/class 1': 0.5}
    """
    logged = {}
    for name, value in details.items():
        loss, _, part = name.partition("/")
        level = part.removeprefix("level")
        is_level = part.startswith("level") and level.isdigit()
        shown = level_names[int(level)] if is_level else f"class {part}"
        is_mean = cls_is_mean and loss == "loss_cls"
        logged[f"{loss}/{shown}"] = float(value if is_mean else value / normalizer)
    return logged
