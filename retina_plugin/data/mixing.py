"""Training samples made of several images: mosaic and mixup."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from detectron2.structures import Boxes, Instances

FILL = 114
"""Grey where no image is."""

LEAST_VISIBLE = 0.25
"""Share of a box's area that has to be left after it was cut; with less nobody could tell what it is."""

LEAST_SIDE = 2.0
"""Pixels of the network input."""


class MixedSamples(Dataset):
    """Puts other samples into some of the samples of a dataset; draws from numpy's random numbers.

    Args:
        samples: map-style, of the training mapper: "image" (C, H, W) uint8, "instances", perhaps "ignore_boxes".
        mosaic: INPUT.MOSAIC, probability that a sample becomes a quarter of a mosaic of four.
        mixup: INPUT.MIXUP, probability that a sample (or mosaic) is blended with another.

    Source: Bochkovskiy et al. 2020 (mosaic; here cut to the size of the first image, so that sizes stay what the schedule
    says), Zhang et al. 2018 and Zhang et al. 2019, *Bag of Freebies* (mixup for detection: boxes of both count whole).
    """

    def __init__(self, samples: Dataset, *, mosaic: float, mixup: float) -> None:
        self.samples, self.mosaic, self.mixup = samples, mosaic, mixup

    def __len__(self) -> int:
        """Images of the dataset."""
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        """The sample, perhaps with others in it."""
        sample = self.samples[index]
        if np.random.rand() < self.mosaic:
            others = [self.samples[i] for i in np.random.randint(len(self), size=3)]
            sample = mosaic([sample, *others], centre=np.random.uniform(0.3, 0.7, size=2), corners=np.random.rand(4, 2))
        if np.random.rand() < self.mixup:
            sample = mixup(sample, self.samples[np.random.randint(len(self))], share=np.random.beta(32, 32))
        return sample


def mosaic(samples: list[dict], *, centre: np.ndarray, corners: np.ndarray) -> dict:
    """Four samples around a point, in an image of the size of the first.

    Args:
        samples: top left, top right, bottom left, bottom right.
        centre: (2,) where they meet, (x, y) in 0..1.
        corners: (4, 2) which part of each sample is shown: 0 its left or upper end, 1 its right or lower.

    Returns:
        The first sample with another "image", "instances" and "ignore_boxes"; boxes of which too little is left are ignore boxes.
    """
    first = samples[0]["image"]
    height, width = first.shape[-2:]
    x, y = (max(1, round(float(c) * side)) for c, side in zip(centre, (width, height), strict=True))
    canvas = torch.full_like(first, FILL)
    parts = []
    for sample, (left, top, right, bottom), corner in zip(
        samples, ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)), corners, strict=True
    ):
        image = sample["image"]
        h, w = min(bottom - top, image.shape[-2]), min(right - left, image.shape[-1])
        from_x, from_y = (
            int(c * (side - shown)) for c, side, shown in zip(corner, image.shape[:0:-1], (w, h), strict=True)
        )
        # A smaller image lies at the centre of the mosaic, not at its edge.
        to_x, to_y = (right - w if left == 0 else left), (bottom - h if top == 0 else top)
        canvas[:, to_y : to_y + h, to_x : to_x + w] = image[:, from_y : from_y + h, from_x : from_x + w]
        parts.append(cut(sample, (from_x, from_y, from_x + w, from_y + h), shift=(to_x - from_x, to_y - from_y)))
    return {**samples[0], "image": canvas, **joined(parts, (height, width))}


def cut(sample: dict, window: tuple[int, int, int, int], *, shift: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (M, 4), classes (M,) and ignore boxes (G, 4) of a sample inside a window XYXY, moved by ``shift``; a box that is mostly cut off is ignored."""
    boxes, classes = sample["instances"].gt_boxes.tensor, sample["instances"].gt_classes
    ignored = sample.get("ignore_boxes", boxes.new_zeros(0, 4))
    low, high = boxes.new_tensor(window[:2] * 2), boxes.new_tensor(window[2:] * 2)
    inside, ignored = (torch.minimum(torch.maximum(x, low), high) for x in (boxes, ignored))
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    sides = inside[:, 2:] - inside[:, :2]
    seen, whole = sides.prod(dim=1) > 0, (sides.prod(dim=1) >= LEAST_VISIBLE * area) & (sides >= LEAST_SIDE).all(dim=1)
    ignored = torch.cat([ignored[((ignored[:, 2:] - ignored[:, :2]) > 0).all(dim=1)], inside[seen & ~whole]])
    move = boxes.new_tensor(shift * 2)
    return inside[whole] + move, classes[whole], ignored + move


def mixup(sample: dict, other: dict, *, share: float) -> dict:
    """Two samples over one another, each at its upper left corner, in an image that holds both.

    Args:
        sample, other: the first gives everything but the pixels and the boxes.
        share: of the first in the pixels, 0..1.
    """
    a, b = sample["image"], other["image"]
    size = tuple(max(x, y) for x, y in zip(a.shape[-2:], b.shape[-2:], strict=True))
    canvas = torch.full((a.shape[0], *size), float(FILL))
    canvas[:, : a.shape[1], : a.shape[2]] = a
    second = torch.full_like(canvas, float(FILL))
    second[:, : b.shape[1], : b.shape[2]] = b
    image = canvas.mul_(share).add_(second, alpha=1 - share).round_().to(torch.uint8)
    everything = (0, 0, size[1], size[0])
    return {**sample, "image": image, **joined([cut(x, everything, shift=(0, 0)) for x in (sample, other)], size)}


def joined(parts: list[tuple[Tensor, Tensor, Tensor]], size: tuple[int, int]) -> dict:
    """ "instances" and "ignore_boxes" of an image (height, width) from several :func:`cut`."""
    boxes, classes, ignored = (torch.cat(kind) for kind in zip(*parts, strict=True))
    instances = Instances(size)
    instances.gt_boxes, instances.gt_classes = Boxes(boxes), classes
    return {"instances": instances, "ignore_boxes": ignored}
