"""Augmentations by name: operations of torchvision.transforms.v2 on an image and its boxes."""

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from detectron2.config import CfgNode
from detectron2.structures import Boxes

from retina_plugin.data.targets import MOST_EMPTY

NESTED = "transforms"
"""Argument of operations that choose among others, such as RandomApply and RandomChoice."""

KINDS = {name: kind for name, kind in vars(v2).items() if inspect.isclass(kind) and issubclass(kind, v2.Transform)}
NAMES = sorted(set(KINDS) - {"Transform"})
"""Operations of torchvision."""


class TorchvisionAugmentations:
    """Applies operations one after another to the samples of the training mapper.

    Args:
        operations: each a name, or a mapping of one name to its arguments, such as
            ``{"RandomAffine": {"degrees": 10, "scale": [0.8, 1.2]}}``; the argument ``transforms`` of RandomApply,
            RandomChoice, RandomOrder and Compose is such a list itself.

    Raises:
        ValueError: there is no such operation, or it does not take these arguments.
    """

    def __init__(self, operations: Sequence[str | Mapping[str, Mapping[str, Any]]]) -> None:
        self.operations = [_build(entry) for entry in operations]

    def __call__(self, record: dict) -> dict:
        """Return a sample with "image" (C, H, W) uint8, "instances" and maybe "ignore_boxes" after all operations.

        Random numbers follow from numpy's, which the loader seeds for every sample. Boxes are clipped to the image, and
        left out with their classes where nothing of them remains.

        Raises:
            ValueError: an operation changed the type of the image, or made a box that is not finite.
        """
        size = tuple(record["image"].shape[-2:])
        sample = {"image": tv_tensors.Image(record["image"])}
        if "instances" in record:
            sample["boxes"] = _boxes(record["instances"].gt_boxes.tensor, size)
        if "ignore_boxes" in record:
            sample["crowds"] = _boxes(record["ignore_boxes"], size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.randint(2**31)))
            for operation in self.operations:
                sample = operation(sample)
                _check(sample, type(operation).__name__)
        return _as_record(record, sample)


def _boxes(boxes: torch.Tensor, size: tuple[int, ...]) -> tv_tensors.BoundingBoxes:
    """Return boxes (M, 4) XYXY as torchvision has them."""
    return tv_tensors.BoundingBoxes(boxes.reshape(-1, 4), format="XYXY", canvas_size=(size[0], size[1]))


def _check(sample: dict, name: str) -> None:
    """Raise a ValueError if an operation did something to a sample that training cannot use."""
    image = sample["image"]
    if not isinstance(image, torch.Tensor):
        raise ValueError(f"INPUT.AUGMENTATIONS: {name} made a {type(image).__name__}, not a tensor of uint8")
    if image.dtype != torch.uint8 or image.ndim != 3 or not image.numel():
        kind = f"{str(image.dtype).removeprefix('torch.')} of shape {tuple(image.shape)}"
        raise ValueError(f"INPUT.AUGMENTATIONS: {name} made an image of {kind}; uint8 of shape (C, H, W) is needed")
    for key in ("boxes", "crowds"):
        if key in sample and not torch.isfinite(sample[key].as_subclass(torch.Tensor)).all():
            raise ValueError(f"INPUT.AUGMENTATIONS: {name} made boxes that are not finite")


def _as_record(record: dict, sample: dict) -> dict:
    """Return the record of a sample after its augmentations."""
    image = sample["image"].as_subclass(torch.Tensor).contiguous()
    size = (image.shape[-2], image.shape[-1])
    limits = torch.tensor([size[1], size[0]] * 2, dtype=torch.float32)
    found = {**record, "image": image}

    def inside(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return boxes (M, 4) clipped to the image, and which of them (M,) have an area."""
        clipped = torch.minimum(boxes.as_subclass(torch.Tensor).float().clamp(min=0), limits)
        return clipped, (clipped[:, 2:] - clipped[:, :2] > MOST_EMPTY).all(dim=1)

    if "boxes" in sample:
        boxes, keep = inside(sample["boxes"])
        instances = record["instances"]
        kept = type(instances)(size)
        for name, value in instances.get_fields().items():
            kept.set(name, Boxes(boxes[keep]) if name == "gt_boxes" else value[keep])
        found["instances"] = kept
    if "crowds" in sample:
        crowds, keep = inside(sample["crowds"])
        found["ignore_boxes"] = crowds[keep]
    return found


def _build(entry: Any) -> v2.Transform:
    """Build an operation.

    Raises:
        ValueError: the entry is none.
    """
    is_pair = isinstance(entry, Mapping) and len(entry) == 1
    if not isinstance(entry, str) and not is_pair:
        raise ValueError(f"an operation is a name or a mapping of one name to its arguments; got {entry!r}")
    name, arguments = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"torchvision.transforms.v2 has no operation {name!r}{hint}")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the arguments of {name} are a mapping, such as {{p: 0.5}}; got {arguments!r}")
    values = dict(arguments)
    if isinstance(values.get(NESTED), list | tuple):
        values[NESTED] = [_build(x) for x in values[NESTED]]
    try:
        return getattr(v2, name)(**values)
    except (TypeError, ValueError, NotImplementedError) as error:
        signature = inspect.signature(getattr(v2, name))
        raise ValueError(f"{name} does not take {dict(arguments)}: {error}; it is {name}{signature}") from error


def refuse_wrong_operations(cfg: CfgNode) -> None:
    """Check that INPUT.AUGMENTATIONS can be built, and that the mapper has them.

    Raises:
        ValueError: they cannot, or INPUT.MAPPER ignores them.
    """
    if not cfg.INPUT.AUGMENTATIONS:
        return
    try:
        TorchvisionAugmentations(cfg.INPUT.AUGMENTATIONS)
    except ValueError as error:
        raise ValueError(f"INPUT.AUGMENTATIONS: {error}") from error
    if cfg.INPUT.MAPPER == "detectron2":
        raise ValueError("INPUT.AUGMENTATIONS has no effect with INPUT.MAPPER detectron2")
