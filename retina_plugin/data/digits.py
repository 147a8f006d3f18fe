"""Generates the bundled datasets: handwritten digits on photographs, from the data in scikit-learn's wheel."""

import functools
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

logger = logging.getLogger(__name__)

VAL_DIGITS = 300
"""Scanned digits kept for val; they never occur in train."""
LEAST_CONTRAST = 55
"""Least difference between the ink's grey value and the mean grey value of the background, 0..255."""


@dataclass(frozen=True)
class Layout:
    """How the images of a dataset look.

    Args:
        image_size: side of the square images, pixels.
        digit_size: shortest and longest longer side of a digit's box, pixels.
        digits_an_image: fewest and most digits that are tried.
        crop: narrowest and widest square of a photograph that becomes a background, pixels.
        clusters: fewest and most clusters that the digits of an image lie in; None: anywhere.
        cluster_size: standard deviation of the places in a cluster, pixels.
        empty: share of the images without a digit.
        frequencies: relative frequency of each digit; None: those of the scans, about equal.
        splits: number of images of each split.
    """

    image_size: int = 192
    digit_size: tuple[int, int] = (20, 80)
    digits_an_image: tuple[int, int] = (1, 7)
    crop: tuple[int, int] = (120, 400)
    clusters: tuple[int, int] | None = None
    cluster_size: tuple[int, int] = (40, 120)
    empty: float = 0.0
    frequencies: tuple[float, ...] | None = None
    splits: dict[str, int] = field(default_factory=lambda: {"train": 1500, "val": 200})


DIGITS = Layout()
"""A few digits, medium-sized and large, in 1,700 images of 192 px."""

DIGITS_DENSE = Layout(
    image_size=1024,
    digit_size=(10, 28),
    digits_an_image=(80, 200),
    crop=(300, 420),
    clusters=(3, 8),
    splits={"train": 100, "val": 30},
)
"""Many small digits in clusters, in images of 1,024 px."""

DIGITS_FEW = Layout(
    empty=1 / 3,
    frequencies=tuple(0.75**digit for digit in range(10)),
    splits={"train": 40, "val": 60},
)
"""40 training images, a third of them without a digit; each digit 0.75 times as frequent as the one before."""


def generate_digits(
    root: str | os.PathLike, *, layout: Layout = DIGITS, splits: dict[str, int] | None = None, seed: int = 0
) -> None:
    """Write a dataset to ``root``: train/, val/ (PNG) and instances_train.json, instances_val.json (COCO).

    scikit-learn's 1,797 scanned digits (8x8 pixels, 10 classes) are enlarged, inked in a random colour with enough
    contrast, and pasted without overlap on random crops of its two sample photographs. The same seed produces the same
    files. ``root`` appears only once it is complete.

    Args:
        root: a folder that does not exist yet.
        layout: of the images.
        splits: number of images of each split, None for those of the layout; the scanned digits of "val" are not used
            in the others.
        seed: of all random numbers.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.

    Source: scikit-learn's ``load_digits`` (UCI, Alpaydin and Kaynak 1998, CC BY 4.0) and
    ``load_sample_images`` (CC BY 2.0, see the licence file next to them).
    """
    from sklearn.datasets import load_digits, load_sample_images

    root = Path(root)
    splits = layout.splits if splits is None else splits
    work = root.with_name(f"{root.name}.{os.getpid()}.tmp")
    digits = load_digits()
    photos = [image[..., ::-1] for image in load_sample_images().images]  # BGR
    order = np.random.default_rng(seed).permutation(len(digits.images))
    pools = {split: order[:VAL_DIGITS] if split == "val" else order[VAL_DIGITS:] for split in splits}
    logger.info("making the digits dataset in %s", root)
    for number, (split, count) in enumerate(splits.items()):
        (work / split).mkdir(parents=True)
        images: list[dict] = []
        annotations: list[dict] = []
        for index in range(count):
            rng = np.random.default_rng([seed, number, index])
            image, boxes, labels = _draw_image(rng, photos, digits, pools[split], layout)
            name = f"{index:06d}.png"
            cv2.imwrite(str(work / split / name), image)
            side = layout.image_size
            images.append({"id": index + 1, "file_name": name, "width": side, "height": side})
            for (x, y, w, h), label in zip(boxes, labels, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index + 1,
                        "category_id": int(label) + 1,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
        data = {"info": {"seed": seed}, "images": images, "annotations": annotations, "categories": categories}
        (work / f"instances_{split}.json").write_text(json.dumps(data), encoding="utf-8")
    try:
        work.replace(root)
    except OSError:  # a different process was faster; its files are the same
        shutil.rmtree(work)


GENERATORS: dict[str, Callable[[str | os.PathLike], None]] = {
    "digits": generate_digits,
    "digits_dense": functools.partial(generate_digits, layout=DIGITS_DENSE),
    "digits_few": functools.partial(generate_digits, layout=DIGITS_FEW),
}
"""Functions ``generate(root)`` of the bundled datasets, by their name in a card."""


def _draw_image(
    rng: np.random.Generator, photos: list[np.ndarray], digits: Any, pool: np.ndarray, layout: Layout
) -> tuple[np.ndarray, list[list[int]], list[int]]:
    """Draw one image.

    Args:
        rng: draws everything random.
        photos: backgrounds (h, w, 3) uint8 BGR.
        digits: what scikit-learn's ``load_digits`` returns.
        pool: (n,) indices of the scanned digits that may be used.
        layout: of the image.

    Returns:
        The image (H, W, 3) uint8 BGR, its boxes [x, y, w, h] in pixels, and their digits 0..9.
    """
    image = _crop(rng, photos[rng.integers(len(photos))], layout)
    boxes: list[list[int]] = []
    labels: list[int] = []
    if layout.empty and rng.random() < layout.empty:
        return image, boxes, labels
    places = _Places(rng, layout)
    for _ in range(rng.integers(layout.digits_an_image[0], layout.digits_an_image[1] + 1)):
        which = _scan(rng, digits, pool, layout.frequencies)
        low, high = np.log(layout.digit_size)
        mask = _enlarge(digits.images[which], round(float(np.exp(rng.uniform(low, high)))))
        h, w = mask.shape
        for _ in range(20):  # attempts to find a free place
            x, y = places.draw(w, h)
            if all(x >= bx + bw or bx >= x + w or y >= by + bh or by >= y + h for bx, by, bw, bh in boxes):
                _paste(rng, image[y : y + h, x : x + w], mask)
                boxes.append([x, y, w, h])
                labels.append(digits.target[which])
                break
    return image, boxes, labels


class _Places:
    """Draws places for digits.

    Args:
        rng: draws everything random.
        layout: of the image.
    """

    def __init__(self, rng: np.random.Generator, layout: Layout) -> None:
        self.rng, self.side = rng, layout.image_size
        self.centres = np.zeros((0, 2))
        if layout.clusters:
            count = rng.integers(layout.clusters[0], layout.clusters[1] + 1)
            self.centres = rng.uniform(0, self.side, (count, 2))
            self.spreads = rng.uniform(*layout.cluster_size, count)

    def draw(self, w: int, h: int) -> tuple[int, int]:
        """Return the left upper corner of a box inside the image."""
        limits = np.array([self.side - w, self.side - h])
        if not len(self.centres):
            return int(self.rng.integers(0, limits[0] + 1)), int(self.rng.integers(0, limits[1] + 1))
        cluster = self.rng.integers(len(self.centres))
        place = self.centres[cluster] + self.rng.normal(0, self.spreads[cluster], 2)
        x, y = np.clip(np.rint(place), 0, limits).astype(int)
        return int(x), int(y)


def _scan(rng: np.random.Generator, digits: Any, pool: np.ndarray, frequencies: tuple[float, ...] | None) -> int:
    """Return the index of a scan from the pool, with the given frequencies of the digits."""
    if frequencies is not None:
        shares = np.array(frequencies) / sum(frequencies)
        pool = pool[digits.target[pool] == rng.choice(len(shares), p=shares)]
    return int(pool[rng.integers(len(pool))])


def _crop(rng: np.random.Generator, photo: np.ndarray, layout: Layout) -> np.ndarray:
    """Return a random square of a photograph (h, w, 3), resized to the image size, maybe mirrored."""
    side = int(rng.integers(layout.crop[0], layout.crop[1] + 1))
    x, y = int(rng.integers(0, photo.shape[1] - side + 1)), int(rng.integers(0, photo.shape[0] - side + 1))
    size = layout.image_size, layout.image_size
    crop = cv2.resize(photo[y : y + side, x : x + side], size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _enlarge(scan: np.ndarray, longer_side: int) -> np.ndarray:
    """Return the ink (h, w) in 0..1 of an 8x8 scan (0..16), cropped to its visible part, ``longer_side`` px long."""
    big = cv2.resize(scan.astype(np.float32) / 16, (128, 128), interpolation=cv2.INTER_CUBIC)
    ink = np.clip((big - 0.1) / 0.5, 0, 1)  # steepen the soft edge of the enlarged scan, keep its faint strokes
    rows, cols = np.flatnonzero(ink.max(axis=1) > 0.4), np.flatnonzero(ink.max(axis=0) > 0.4)
    ink = ink[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    scale = longer_side / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    return cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)


def _paste(rng: np.random.Generator, region: np.ndarray, mask: np.ndarray) -> None:
    """Ink ``region`` (h, w, 3) uint8 in place through ``mask`` (h, w) 0..1, in a random colour with enough contrast."""
    background = float(region.mean())
    while True:
        colour = rng.uniform(0, 255, size=3)
        if abs(colour.mean() - background) >= LEAST_CONTRAST:
            break
    region[:] = np.rint(region * (1 - mask[..., None]) + colour * mask[..., None]).astype(np.uint8)
