"""Checks of what the parts of a detector return, made in the first step.

A custom variant that breaks its contract is reported by name, with what was expected.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from detectron2.structures import Boxes


class ContractError(TypeError):
    """A variant returned something that its slot does not allow.

    Args:
        slot: config key that chose the variant.
        variant: class, function or object.
        expected: what it must return.
        got: what it returned.
    """

    def __init__(self, slot: str, variant: object, expected: str, got: str) -> None:
        is_function = callable(variant) and not hasattr(variant, "forward") and hasattr(variant, "__qualname__")
        kind: Any = variant if isinstance(variant, type) or is_function else type(variant)
        super().__init__(f"{slot}: {kind.__module__}.{kind.__qualname__} must return {expected}; it returned {got}")


def described(value: object) -> str:
    """Describe a value in a few words: its type and its shape, such as (2, 3), or its first entries.

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
        entries = [described(entry) for entry in value[:3]] + ["..."] * (len(value) > 3)
        return f"a {type(value).__name__} of {len(value)}: [{', '.join(entries)}]"
    return f"a {type(value).__name__}"


def check_features(
    backbone: object, features: object, names: Sequence[str], shapes: Mapping, images: Tensor, *, slot: str
) -> None:
    """Check that a pyramid yields the levels that it announces.

    Args:
        backbone: network with the pyramid.
        features: what it returned.
        names: names of the L maps that the head takes.
        shapes: its ``output_shape()``.
        images: (N, C, H, W).
        slot: config key that chose it.

    Raises:
        ContractError: if a map is missing or has a different shape.
    """
    wanted = {}
    for name in names:
        height, width = (math.ceil(side / shapes[name].stride) for side in images.shape[-2:])
        wanted[name] = (len(images), shapes[name].channels, height, width)
    expected = "a dict of maps (N, channels, height / stride, width / stride): " + ", ".join(
        f"{name} {shape}" for name, shape in wanted.items()
    )
    if not isinstance(features, Mapping) or any(not isinstance(features.get(name), Tensor) for name in names):
        raise ContractError(slot, backbone, expected, described(features))
    found = {name: tuple(features[name].shape) for name in names}
    if wrong := [f"{name} {found[name]}" for name in names if found[name] != wanted[name]]:
        raise ContractError(slot, backbone, expected, ", ".join(wrong))


def box_width(head: object) -> int:
    """Return the number of outputs per anchor for the box: 4, or more while some heads are trained."""
    return getattr(head, "box_outputs", 4) if getattr(head, "training", False) else 4


def check_head(
    head: object, outputs: Any, features: Sequence[Tensor], *, num_anchors: int, num_classes: int, slot: str
) -> None:
    """Check that a head returns logits and deltas of all levels.

    Args:
        head: the head.
        outputs: what it returned.
        features: L maps (N, C, Hi, Wi).
        num_anchors: A.
        num_classes: K.
        slot: config key that chose it.

    Raises:
        ContractError: if their number or a shape is wrong.
    """
    expected = (
        f"two lists of {len(features)} tensors, logits (N, {num_anchors} x {num_classes}, Hi, Wi) "
        f"and deltas (N, {num_anchors} x {box_width(head)}, Hi, Wi)"
    )
    if not _has_length(outputs, 2) or not all(_has_length(part, len(features)) for part in outputs):
        raise ContractError(slot, head, expected, described(outputs))
    for what, part, width in zip(("logits", "deltas"), outputs, (num_classes, box_width(head)), strict=True):
        for i, (map_, feature) in enumerate(zip(part, features, strict=True)):
            wanted = (len(feature), num_anchors * width, *feature.shape[-2:])
            if not isinstance(map_, Tensor) or tuple(map_.shape) != wanted or not map_.is_floating_point():
                raise ContractError(slot, head, f"{expected}; {what} of level {i} are {wanted}", described(map_))


def _has_length(value: object, length: int) -> bool:
    """Return whether a value is a list or tuple of this length."""
    return isinstance(value, list | tuple) and len(value) == length


def check_anchors(generator: object, anchors: Any, features: Sequence[Tensor], *, num_anchors: int, slot: str) -> None:
    """Check that an anchor generator returns ``Boxes`` for every location of every level.

    Args:
        generator: the anchor generator.
        anchors: what it returned.
        features: L maps (N, C, Hi, Wi).
        num_anchors: A.
        slot: config key that chose it.

    Raises:
        ContractError: if they are not L ``Boxes``, or their numbers are wrong.
    """
    counts = [feature.shape[-2] * feature.shape[-1] * num_anchors for feature in features]
    expected = f"a list of {len(features)} Boxes (Hi x Wi x {num_anchors}, 4), {', '.join(map(str, counts))} of them"
    if not _has_length(anchors, len(features)) or not all(isinstance(level, Boxes) for level in anchors):
        raise ContractError(slot, generator, expected, described(anchors))
    if [len(level) for level in anchors] != counts:
        raise ContractError(slot, generator, expected, f"{', '.join(str(len(level)) for level in anchors)} of them")


def check_labels(
    assigner: object, result: Any, *, num_images: int, num_anchors: int, num_boxes: int, num_classes: int, slot: str
) -> None:
    """Check that an assigner returns labels and matches of all anchors; synchronises with the GPU to read them.

    Args:
        assigner: the assigner.
        result: what it returned; (N, R) each.
        num_images: N.
        num_anchors: R.
        num_boxes: M, boxes of the whole batch.
        num_classes: K.
        slot: config key that chose it.

    Raises:
        ContractError: if a type, a shape or a value is wrong.
    """
    shape = (num_images, num_anchors)
    classes = f"labels -1 (ignore), 0 to {num_classes - 1}, {num_classes} (background)"
    expected = f"(gt_labels, matched_idxs), int64 tensors {shape}; {classes}"
    if not _has_length(result, 2) or not all(_is_integer_tensor(x, shape) for x in result):
        raise ContractError(slot, assigner, expected, described(result))
    labels, matched = result
    if type(labels).__name__ == "FakeTensor":
        return  # has no values
    if bounds := _outside(labels, -1, num_classes):
        raise ContractError(slot, assigner, expected, f"labels from {bounds[0]} to {bounds[1]}")
    used = matched[(labels >= 0) & (labels < num_classes)]
    if bounds := _outside(used, 0, num_boxes - 1):
        expected = f"for foreground anchors matched_idxs from 0 to {num_boxes - 1}, into the boxes of the whole batch"
        raise ContractError(slot, assigner, expected, f"{bounds[0]} to {bounds[1]}")


def _is_integer_tensor(value: object, shape: tuple[int, ...]) -> bool:
    """Return whether a value is an int64 tensor of this shape."""
    return isinstance(value, Tensor) and tuple(value.shape) == shape and value.dtype == torch.int64


def _outside(values: Tensor, low: int, high: int) -> tuple[int, int] | None:
    """Return the smallest and largest value if they do not lie in low..high; None if all do or there are none."""
    if not values.numel():
        return None
    smallest, largest = int(values.min()), int(values.max())
    return None if low <= smallest and largest <= high else (smallest, largest)


def check_loss(loss: object, value: object, *, slot: str) -> None:
    """Check that a loss returns a differentiable scalar.

    Args:
        loss: the loss.
        value: what it returned.
        slot: config key that chose it.

    Raises:
        ContractError: if it is not one.
    """
    expected = "a scalar tensor, a sum over the anchors, that is differentiable"
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        raise ContractError(slot, loss, expected, described(value))
    if torch.is_grad_enabled() and not value.requires_grad:
        hint = "even without foreground it must depend on its input, as 0 * input.sum() does"
        raise ContractError(slot, loss, expected, f"{described(value)} without a gradient; {hint}")
