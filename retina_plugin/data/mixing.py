"""Combines several training samples into one: mosaic and mixup."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from detectron2.structures import Boxes, Instances

FILL = 114
"""Grey value where there is no image."""

LEAST_VISIBLE = 0.25
"""Share of the area of a box that must remain after cropping; with less, the object cannot be recognised."""

LEAST_SIDE = 2.0
"""Side that must remain after cropping, pixels of the network input."""


class Samples(Protocol):
    """A map-style dataset of a known length."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int, /) -> dict:
        """Return the sample at an index."""
        ...


class MixedSamples(Dataset):
    """Dataset that combines some of the samples of a dataset with others, drawn with numpy's random numbers.

    Args:
        samples: map-style, from the training mapper: "image" (C, H, W) uint8, "instances", optionally "ignore_boxes".
        mosaic: INPUT.MOSAIC, probability that a sample becomes a quarter of a mosaic of four.
        mixup: INPUT.MIXUP, probability that a sample (or mosaic) is blended with another.

    Source: Bochkovskiy et al. 2020 (mosaic; here cropped to the size of the first image, to keep the sizes of the
    schedule), Zhang et al. 2018 and Zhang et al. 2019, *Bag of Freebies* (mixup for detection: the boxes of both images
    have full weight).
    """

    def __init__(self, samples: Samples, *, mosaic: float, mixup: float) -> None:
        self.samples, self.mosaic, self.mixup = samples, mosaic, mixup

    def __len__(self) -> int:
        """Return the number of images of the dataset."""
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        """Return the sample at an index, possibly combined with others."""
        sample = self.samples[index]
        if np.random.rand() < self.mosaic:
            others = [self.samples[i] for i in np.random.randint(len(self), size=3)]
            sample = mosaic([sample, *others], centre=np.random.uniform(0.3, 0.7, size=2), corners=np.random.rand(4, 2))
        if np.random.rand() < self.mixup:
            sample = mixup(sample, self.samples[np.random.randint(len(self))], share=np.random.beta(32, 32))
        return sample


def mosaic(samples: list[dict], *, centre: np.ndarray, corners: np.ndarray) -> dict:
    """Arrange four samples around a point, in an image of the size of the first.

    Args:
        samples: top left, top right, bottom left, bottom right.
        centre: (2,) where they meet, (x, y) as shares 0..1 of the width and height.
        corners: (4, 2) visible part of each sample, (x, y): 0 is its left or upper end, 1 its right or lower end.

    Returns:
        The first sample with a new "image" (C, H, W), "instances" and "ignore_boxes" (G, 4); boxes of which too little
        remains become ignore boxes.
    """
    first = samples[0]["image"]
    height, width = first.shape[-2:]
    x, y = (max(1, round(float(c) * side)) for c, side in zip(centre, (width, height), strict=True))
    canvas = torch.full_like(first, FILL)
    quarters = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    parts = []
    for sample, (left, top, right, bottom), corner in zip(samples, quarters, corners, strict=True):
        image = sample["image"]
        h, w = min(bottom - top, image.shape[-2]), min(right - left, image.shape[-1])
        from_x, from_y = int(corner[0] * (image.shape[-1] - w)), int(corner[1] * (image.shape[-2] - h))
        # An image smaller than its quarter is placed next to the centre of the mosaic, not at its edge.
        to_x, to_y = (right - w if left == 0 else left), (bottom - h if top == 0 else top)
        canvas[:, to_y : to_y + h, to_x : to_x + w] = image[:, from_y : from_y + h, from_x : from_x + w]
        parts.append(cut(sample, (from_x, from_y, from_x + w, from_y + h), shift=(to_x - from_x, to_y - from_y)))
    return {**samples[0], "image": canvas, **joined(parts, (height, width))}


def cut(sample: dict, window: tuple[int, int, int, int], *, shift: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Crop the boxes of a sample to a window and move them; a box that is mostly cut off becomes an ignore box.

    Args:
        sample: with "instances" and optionally "ignore_boxes".
        window: XYXY, pixels of the sample's image.
        shift: (x, y) added to the boxes, pixels.

    Returns:
        Boxes (M, 4) XYXY, classes (M,) and ignore boxes (G, 4) XYXY.
    """
    boxes, classes = sample["instances"].gt_boxes.tensor, sample["instances"].gt_classes
    ignored = sample.get("ignore_boxes", boxes.new_zeros(0, 4))
    low, high = boxes.new_tensor(window[:2] * 2), boxes.new_tensor(window[2:] * 2)
    inside, ignored = (torch.minimum(torch.maximum(x, low), high) for x in (boxes, ignored))
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    sides = inside[:, 2:] - inside[:, :2]
    visible = sides.prod(dim=1)
    kept = (visible >= LEAST_VISIBLE * area) & (sides >= LEAST_SIDE).all(dim=1)
    ignored = ignored[(ignored[:, 2:] > ignored[:, :2]).all(dim=1)]
    ignored = torch.cat([ignored, inside[(visible > 0) & ~kept]])
    move = boxes.new_tensor(shift * 2)
    return inside[kept] + move, classes[kept], ignored + move


def mixup(sample: dict, other: dict, *, share: float) -> dict:
    """Blend two samples, aligned at their upper left corners, in an image large enough for both.

    Args:
        sample: keeps everything but its pixels and boxes.
        other: is blended into it.
        share: weight of the pixels of ``sample``, 0..1.
    """
    a, b = sample["image"], other["image"]
    size = max(a.shape[-2], b.shape[-2]), max(a.shape[-1], b.shape[-1])
    canvas = torch.full((a.shape[0], *size), float(FILL))
    canvas[:, : a.shape[1], : a.shape[2]] = a
    second = torch.full_like(canvas, float(FILL))
    second[:, : b.shape[1], : b.shape[2]] = b
    image = canvas.mul_(share).add_(second, alpha=1 - share).round_().to(torch.uint8)
    everything = (0, 0, size[1], size[0])
    return {**sample, "image": image, **joined([cut(x, everything, shift=(0, 0)) for x in (sample, other)], size)}


def joined(parts: list[tuple[Tensor, Tensor, Tensor]], size: tuple[int, int]) -> dict:
    """Concatenate the results of :func:`cut` to the "instances" and "ignore_boxes" of one image.

    Args:
        parts: boxes (M, 4), classes (M,) and ignore boxes (G, 4) of each part.
        size: (height, width) of the image, pixels.
    """
    boxes, classes, ignored = (torch.cat(kind) for kind in zip(*parts, strict=True))
    instances = Instances(size)
    instances.gt_boxes, instances.gt_classes = Boxes(boxes), classes
    return {"instances": instances, "ignore_boxes": ignored}
