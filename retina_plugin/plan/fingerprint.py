"""Facts about a dataset from which a training is planned: its images, objects and classes."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from retina_plugin.data.strangers_files import ImageError
from retina_plugin.plan.symmetry import Symmetry, patch_of, symmetries

PERCENTILES = (5, 25, 50, 75, 95)
"""Percentiles in which sizes, shapes and numbers are described."""

SAMPLED_IMAGES = 128
"""Images of a split whose pixels are looked at, evenly spaced."""

COMPARED_AT_ONCE = 256
"""Objects of an image that are compared with all others at once, which bounds the memory."""

ALIKE = 6
"""Two images are alike if at most so many of the 64 bits of their hashes differ."""

CROWDED = 0.3
"""IoU with a neighbour of the same class from which an object is crowded; NMS at 0.5 is then close."""


@dataclass(frozen=True)
class Fingerprint:
    """Facts about the images and objects of a training split, without crowds; sizes in pixels of the images.

    Args:
        images: number of images.
        height, width: of the typical image, that with the median number of pixels.
        smallest, largest: the (height, width) of the images with the fewest and the most pixels.
        shorter: percentiles of the shorter side of the images.
        objects: number of objects.
        classes: number of objects of each class, by name, the most frequent first.
        images_with: number of images that each class occurs in, by name.
        empty: share of the images without an object.
        per_image: percentiles of the number of objects of an image that has any.
        most: objects of the image with the most, over all splits.
        sides: percentiles of the objects' size, the square root of their area.
        shares: percentiles of that size relative to the shorter side of the image.
        longest: percentiles of the objects' longer side.
        ratios: percentiles of height / width.
        crowded: share of the objects with an IoU of at least ``CROWDED`` with another of their class.
        brightness, contrast: mean and standard deviation of the pixels, 0..255; None if no image could be read.
        grey: share of the images without colour.
        alike: share of the images of which another is a near-duplicate, of those that were looked at.
        val_images: images of the validation split.
        val_alike: share of the validation images of which a training image is a near-duplicate.
        symmetry: whether objects look the same mirrored, upside down and turned, see
            :func:`retina_plugin.plan.symmetry.symmetries`; empty if that could not be seen.
    """

    images: int
    height: int
    width: int
    smallest: tuple[int, int]
    largest: tuple[int, int]
    shorter: tuple[float, ...]
    objects: int
    classes: dict[str, int]
    images_with: dict[str, int]
    empty: float
    per_image: tuple[float, ...]
    most: int
    sides: tuple[float, ...]
    shares: tuple[float, ...]
    longest: tuple[float, ...]
    ratios: tuple[float, ...]
    crowded: float
    brightness: float | None = None
    contrast: float | None = None
    grey: float = 0.0
    alike: float = 0.0
    val_images: int = 0
    val_alike: float = 0.0
    symmetry: dict[str, Symmetry] = field(default_factory=dict)

    def json(self) -> str:
        """Return the facts as JSON."""
        return json.dumps(asdict(self), indent=1)


def fingerprint_of(
    records: Sequence[dict],
    classes: Sequence[str],
    *,
    others: Sequence[Sequence[dict]] = (),
    read: Callable[[str], np.ndarray] | None = None,
) -> Fingerprint:
    """Look at a dataset.

    Args:
        records: of the training split, see :class:`retina_plugin.data.load.LoadResult`.
        classes: K names.
        others: records of the other splits; the first is the validation split.
        read: returns an image (h, w, 3) uint8 of a file, maybe smaller than it is; None: pixels are not looked at.

    Raises:
        ValueError: there is no object to train on.
    """
    sizes = np.array([(x["height"], x["width"]) for x in records]).reshape(-1, 2)
    found = [_objects(record) for record in records]
    boxes = np.array([x["bbox"] for some in found for x in some], dtype=float).reshape(-1, 4)
    if not len(boxes):
        raise ValueError(f"there is nothing to plan for: {len(records)} images without an object")
    labels = [x["category_id"] for some in found for x in some]
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9)
    pixels = sizes.prod(axis=1)
    counts = np.array([len(some) for some in found])
    val = others[0] if others else ()
    typical = sizes[np.argsort(pixels, kind="stable")[len(pixels) // 2]]
    shorter = np.repeat(sizes.min(axis=1), counts)  # of the image of each object
    return Fingerprint(
        images=len(records),
        height=int(typical[0]),
        width=int(typical[1]),
        smallest=_pair(sizes[pixels.argmin()]),
        largest=_pair(sizes[pixels.argmax()]),
        shorter=_percentiles(sizes.min(axis=1)),
        objects=len(boxes),
        classes={classes[k]: n for k, n in Counter(labels).most_common()},
        images_with=_images_with(found, classes),
        empty=float((counts == 0).mean()),
        per_image=_percentiles(counts[counts > 0]),
        most=max(len(_objects(x)) for split in (records, *others) for x in split),
        sides=_percentiles(np.sqrt(sides.prod(axis=1))),
        shares=_percentiles(np.sqrt(sides.prod(axis=1)) / shorter, digits=5),
        longest=_percentiles(sides.max(axis=1)),
        ratios=_percentiles(sides[:, 1] / sides[:, 0]),
        crowded=_crowded(found) / len(boxes),
        val_images=len(val),
        **(_pixels(records, val, read) if read else {}),
    )


def _objects(record: dict) -> list[dict]:
    """Return the annotations of an image that are no crowds."""
    return [x for x in record.get("annotations") or () if not x.get("iscrowd")]


def _pair(values: np.ndarray) -> tuple[int, int]:
    """Return two numbers as integers."""
    return int(values[0]), int(values[1])


def _percentiles(values: np.ndarray, digits: int = 3) -> tuple[float, ...]:
    """Return the ``PERCENTILES`` of values, to some digits after the point."""
    return tuple(round(float(v), digits) for v in np.percentile(values, PERCENTILES))


def _images_with(found: list[list[dict]], classes: Sequence[str]) -> dict[str, int]:
    """Return the number of images that each class occurs in, by name, the most frequent first."""
    counts = Counter(k for some in found for k in {x["category_id"] for x in some})
    return {classes[k]: n for k, n in counts.most_common()}


def _crowded(found: list[list[dict]]) -> int:
    """Return the number of objects that overlap another of their class by at least ``CROWDED``."""
    count = 0
    for some in found:
        boxes = np.array([x["bbox"] for x in some], dtype=float).reshape(-1, 4)
        labels = np.array([x["category_id"] for x in some])
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        for start in range(0, len(boxes), COMPARED_AT_ONCE):
            part = slice(start, start + COMPARED_AT_ONCE)
            low = np.maximum(boxes[part, None, :2], boxes[None, :, :2])
            high = np.minimum(boxes[part, None, 2:], boxes[None, :, 2:])
            shared = (high - low).clip(min=0).prod(axis=2)
            union = areas[part, None] + areas[None, :] - shared
            close = (shared >= CROWDED * union) & (shared > 0) & (labels[part, None] == labels[None, :])
            count += int((close.sum(axis=1) > 1).sum())  # each is close to itself
    return count


def _pixels(records: Sequence[dict], val: Sequence[dict], read: Callable[[str], np.ndarray]) -> dict[str, Any]:
    """Return the facts about pixels, symmetry and near-duplicates; those of broken images are left out."""
    train, held = (_looks_of(some, read) for some in (records, val))
    if not train:
        return {}
    hashes, others = (np.array([x.hash for x in some], dtype=bool).reshape(-1, 64) for some in (train, held))
    between = _differences(hashes, hashes)
    np.fill_diagonal(between, 64)
    leaked = (_differences(others, hashes) <= ALIKE).any(axis=1) if len(others) else np.zeros(1)
    patches: dict[int, list[np.ndarray]] = {}
    for look in train:
        for label, patch in look.patches:
            patches.setdefault(label, []).append(patch)
    return {
        "brightness": round(float(np.mean([x.mean for x in train])), 1),
        "contrast": round(float(np.mean([x.deviation for x in train])), 1),
        "grey": float(np.mean([x.is_grey for x in train])),
        "alike": float((between <= ALIKE).any(axis=1).mean()),
        "val_alike": float(leaked.mean()),
        "symmetry": symmetries(patches),
    }


class _Look(NamedTuple):
    """What is seen of an image: a hash (64,), its mean and deviation, and the label and patch of its objects."""

    hash: np.ndarray
    mean: float
    deviation: float
    is_grey: bool
    patches: list[tuple[int, np.ndarray]]


def _looks_of(records: Sequence[dict], read: Callable[[str], np.ndarray]) -> list[_Look]:
    """Look at ``SAMPLED_IMAGES`` of the images."""
    found = []
    for i in np.linspace(0, len(records) - 1, min(len(records), SAMPLED_IMAGES)).round().astype(int):
        record = records[i]
        try:
            image = read(record["file_name"])
        except ImageError:  # named by the loader, which leaves it out
            continue
        grey = image.mean(axis=2, dtype=np.float32)
        is_grey = bool(np.ptp(image[::4, ::4], axis=2).mean() < 1)
        zoom = np.tile([image.shape[1] / record["width"], image.shape[0] / record["height"]], 2)
        cut = [(x["category_id"], patch_of(grey, np.array(x["bbox"]) * zoom)) for x in _objects(record)]
        patches = [(label, patch) for label, patch in cut if patch is not None]
        found.append(_Look(_hash(grey), float(grey.mean()), float(grey.std()), is_grey, patches))
    return found


def _hash(grey: np.ndarray) -> np.ndarray:
    """Return (64,) bool, whether each cell of an 8 x 9 grid over an image (h, w) is darker than its right neighbour.

    Source: the difference hash of N. Krawetz 2013, *Kind of Like That* (hackerfactor.com).
    """
    rows, columns = (np.linspace(0, side, n + 1).astype(int) for side, n in zip(grey.shape, (8, 9), strict=True))
    cells = np.array(
        [
            [grey[r : max(r + 1, r2), c : max(c + 1, c2)].mean() for c, c2 in itertools.pairwise(columns)]
            for r, r2 in itertools.pairwise(rows)
        ]
    )
    return (cells[:, :-1] < cells[:, 1:]).ravel()


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the number of bits (n, m) in which hashes (n, 64) and (m, 64) differ."""
    return (a[:, None, :] != b[None, :, :]).sum(axis=2)
