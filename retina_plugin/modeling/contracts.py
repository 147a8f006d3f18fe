"""What the parts of a detector hand to one another, looked at in the first step: an own variant that breaks a contract is named, with what was expected."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from detectron2.structures import Boxes


class ContractError(TypeError):
    """A variant returned something else than its slot promises."""

    def __init__(self, slot: str, variant: object, expected: str, got: str) -> None:
        kind = (
            variant
            if isinstance(variant, type)
            or callable(variant)
            and not hasattr(variant, "forward")
            and hasattr(variant, "__qualname__")
            else type(variant)
        )
        super().__init__(f"{slot}: {kind.__module__}.{kind.__qualname__} must return {expected}; it returned {got}")


def described(value: object) -> str:
    """A value in few words: type, shape, and of a container those of its first entries.

    Example:
        >>> described(torch.zeros(2, 3)), described([torch.zeros(1)]), described({"loss": 1.0})
        ('a float32 tensor (2, 3)', 'a list of 1: [a float32 tensor (1,)]', "a dict with 'loss'")
    """
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{'an' if kind[0] in 'iu' else 'a'} {kind} tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with {', '.join(map(repr, list(value)[:5])) or 'nothing'}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}: [{', '.join(described(entry) for entry in value[:3])}{', ...' if len(value) > 3 else ''}]"
    return f"a {type(value).__name__}"


def check_features(
    backbone: object, features: object, names: Sequence[str], shapes: Mapping, images: Tensor, *, slot: str
) -> None:
    """See that a pyramid yields the levels that it announced.

    Args:
        backbone: that yielded them.
        features: what it did.
        names: of the L maps that the head takes.
        shapes: its ``output_shape()``.
        images: (N, C, H, W).
        slot: config key that chose it.

    Raises:
        ContractError: they are others.
    """
    wanted = {
        name: (
            len(images),
            shapes[name].channels,
            *(math.ceil(side / shapes[name].stride) for side in images.shape[-2:]),
        )
        for name in names
    }
    expected = "a dict of maps (N, channels, height / stride, width / stride): " + ", ".join(
        f"{name} {shape}" for name, shape in wanted.items()
    )
    if not isinstance(features, Mapping) or any(not isinstance(features.get(name), Tensor) for name in names):
        raise ContractError(slot, backbone, expected, described(features))
    if found := [
        f"{name} {tuple(features[name].shape)}"
        for name, shape in wanted.items()
        if tuple(features[name].shape) != shape
    ]:
        raise ContractError(slot, backbone, expected, ", ".join(found))


def check_head(
    head: object, outputs: object, features: Sequence[Tensor], *, num_anchors: int, num_classes: int, slot: str
) -> None:
    """See that a head returns logits and deltas of all levels.

    Args:
        head: that returned them.
        outputs: what it did.
        features: L maps (N, C, Hi, Wi).
        num_anchors: A.
        num_classes: K.
        slot: config key that chose it.

    Raises:
        ContractError: their number or shape is another.
    """
    expected = f"two lists of {len(features)} tensors, logits (N, {num_anchors} x {num_classes}, Hi, Wi) and deltas (N, {num_anchors} x 4, Hi, Wi)"
    if (
        not isinstance(outputs, list | tuple)
        or len(outputs) != 2
        or any(not isinstance(part, list | tuple) or len(part) != len(features) for part in outputs)
    ):
        raise ContractError(slot, head, expected, described(outputs))
    for what, part, width in zip(("logits", "deltas"), outputs, (num_classes, 4), strict=True):
        for i, (map_, feature) in enumerate(zip(part, features, strict=True)):
            wanted = (len(feature), num_anchors * width, *feature.shape[-2:])
            if not isinstance(map_, Tensor) or tuple(map_.shape) != wanted or not map_.is_floating_point():
                raise ContractError(slot, head, f"{expected}; {what} of level {i} are {wanted}", described(map_))


def check_anchors(
    generator: object, anchors: object, features: Sequence[Tensor], *, num_anchors: int, slot: str
) -> None:
    """See that an anchor generator returns ``Boxes`` for every location of every level.

    Args:
        generator: that returned them.
        anchors: what it did.
        features: L maps (N, C, Hi, Wi).
        num_anchors: A.
        slot: config key that chose it.

    Raises:
        ContractError: they are others.
    """
    counts = [feature.shape[-2] * feature.shape[-1] * num_anchors for feature in features]
    expected = f"a list of {len(features)} Boxes (Hi x Wi x {num_anchors}, 4), {', '.join(map(str, counts))} of them"
    if (
        not isinstance(anchors, list | tuple)
        or any(not isinstance(level, Boxes) for level in anchors)
        or len(anchors) != len(features)
    ):
        raise ContractError(slot, generator, expected, described(anchors))
    if [len(level) for level in anchors] != counts:
        raise ContractError(slot, generator, expected, f"{', '.join(str(len(level)) for level in anchors)} of them")


def check_labels(
    assigner: object, result: object, *, num_images: int, num_anchors: int, num_boxes: int, num_classes: int, slot: str
) -> None:
    """See that an assigner returns labels and matches of all anchors; reads them, so that a GPU is waited for.

    Args:
        assigner: that returned them.
        result: what it did.
        num_images, num_anchors, num_boxes, num_classes: N, R, boxes of the batch, K.
        slot: config key that chose it.

    Raises:
        ContractError: their type, shape or values are others.
    """
    shape = (num_images, num_anchors)
    expected = f"(gt_labels, matched_idxs), int64 tensors {shape}; labels -1 (ignore), 0 to {num_classes - 1}, {num_classes} (background)"
    if (
        not isinstance(result, list | tuple)
        or len(result) != 2
        or any(not isinstance(x, Tensor) or tuple(x.shape) != shape or x.dtype != torch.int64 for x in result)
    ):
        raise ContractError(slot, assigner, expected, described(result))
    labels, matched = result
    if type(labels).__name__ == "FakeTensor":
        return  # has no values
    if labels.numel() and not (-1 <= int(labels.min()) and int(labels.max()) <= num_classes):
        raise ContractError(slot, assigner, expected, f"labels from {int(labels.min())} to {int(labels.max())}")
    used = matched[(labels >= 0) & (labels < num_classes)]
    if used.numel() and not (0 <= int(used.min()) and int(used.max()) < num_boxes):
        raise ContractError(
            slot,
            assigner,
            f"for foreground anchors matched_idxs from 0 to {num_boxes - 1}, into the boxes of the whole batch",
            f"{int(used.min())} to {int(used.max())}",
        )


def check_loss(loss: object, value: object, *, slot: str) -> None:
    """See that a loss is one number that weights can be trained by.

    Args:
        loss: that returned it.
        value: what it did.
        slot: config key that chose it.

    Raises:
        ContractError: it is none.
    """
    expected = "a scalar tensor, a sum over the anchors, that is differentiable"
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        raise ContractError(slot, loss, expected, described(value))
    if torch.is_grad_enabled() and not value.requires_grad:
        raise ContractError(
            slot,
            loss,
            expected,
            f"{described(value)} without a gradient; even without foreground it has to depend on its input, as 0 * input.sum() does",
        )
