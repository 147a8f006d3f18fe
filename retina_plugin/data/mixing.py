"""Combines several training samples into one: mosaic, mixup and copy-paste."""

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


PLACES = 10
"""Attempts to find a free place for a pasted object."""


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
        copy_paste: INPUT.COPY_PASTE, probability that a sample gets objects of another.

    Source: Bochkovskiy et al. 2020 (mosaic; here cropped to the size of the first image, to keep the sizes of the
    schedule), Zhang et al. 2018 and Zhang et al. 2019, *Bag of Freebies* (mixup for detection: the boxes of both images
    have full weight), Ghiasi et al. 2021 and Dwibedi et al. 2017, *Cut, Paste and Learn* (copy-paste; here along boxes,
    with soft borders).
    """

    def __init__(self, samples: Samples, *, mosaic: float = 0.0, mixup: float = 0.0, copy_paste: float = 0.0) -> None:
        self.samples, self.mosaic, self.mixup, self.copy_paste = samples, mosaic, mixup, copy_paste

    def __len__(self) -> int:
        """Return the number of images of the dataset."""
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        """Return the sample at an index, possibly combined with others."""
        sample = self.samples[index]
        if self.copy_paste and np.random.rand() < self.copy_paste:  # drawn only if needed: a seed keeps its samples
            sample = copy_paste(sample, self.samples[np.random.randint(len(self))])
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


def copy_paste(sample: dict, other: dict) -> dict:
    """Paste objects of one sample into free places of another; drawn with numpy's random numbers.

    Each object of ``other`` is taken with probability 0.5, cut out along its box and pasted where it
    touches no object and no ignore box, if a place is found in ``PLACES`` attempts. Towards its border the pasted box
    fades into the image.

    Args:
        sample: keeps everything but its pixels and boxes.
        other: with "image" (C, H, W) and "instances"; objects that touch another one are not taken, because a part of
            it would be pasted as well.
    """
    image = sample["image"]
    height, width = image.shape[-2:]
    boxes, classes = sample["instances"].gt_boxes, sample["instances"].gt_classes
    taken = torch.cat([boxes.tensor, sample.get("ignore_boxes", boxes.tensor.new_zeros(0, 4))])
    theirs, labels = other["instances"].gt_boxes.tensor, other["instances"].gt_classes
    others = torch.cat([theirs, other.get("ignore_boxes", theirs.new_zeros(0, 4))])
    pasted: list[Tensor] = []
    pasted_labels: list[Tensor] = []
    for i in np.flatnonzero(np.random.rand(len(theirs)) < 0.5).tolist():
        left, top = theirs[i, :2].floor().int().tolist()
        right, bottom = theirs[i, 2:].ceil().int().tolist()
        h, w = bottom - top, right - left
        if h >= height or w >= width or _touching(theirs[i], others).sum() > 1:  # touches itself
            continue
        for _ in range(PLACES):
            y, x = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
            place = theirs[i] + theirs.new_tensor([x - left, y - top] * 2)
            if not _touching(place, taken).any():
                break
        else:
            continue
        if not pasted:
            image = image.clone()
        target = image[:, y : y + h, x : x + w]
        mask = _soft_border(h, w)
        target.copy_((target * (1 - mask) + other["image"][:, top:bottom, left:right] * mask).round_())
        taken = torch.cat([taken, place[None]])
        pasted.append(place)
        pasted_labels.append(labels[i])
    if not pasted:
        return sample
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.cat([boxes.tensor, torch.stack(pasted)]))
    instances.gt_classes = torch.cat([classes, torch.stack(pasted_labels)])
    return {**sample, "image": image, "instances": instances}


def _touching(box: Tensor, boxes: Tensor) -> Tensor:
    """Return (M,) bool, whether a box (4,) shares an area with each of the boxes (M, 4)."""
    return (torch.minimum(box[2:], boxes[:, 2:]) > torch.maximum(box[:2], boxes[:, :2])).all(dim=1)


def _soft_border(height: int, width: int) -> Tensor:
    """Return weights (height, width) in 0..1 that rise from the border over a tenth of each side."""
    rows, columns = (
        torch.minimum(torch.arange(side) + 0.5, side - torch.arange(side) - 0.5) / max(1.0, side / 10)
        for side in (height, width)
    )
    return torch.minimum(rows[:, None], columns[None, :]).clamp(max=1)


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
