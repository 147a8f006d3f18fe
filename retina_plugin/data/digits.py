"""Generates the bundled dataset: handwritten digits on photographs, from the data in scikit-learn's wheel."""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

logger = logging.getLogger(__name__)

IMAGE_SIZE = 192
"""Side of the square images, pixels."""
DIGIT_SIZE = (20, 80)
"""Longer side of a digit's box, pixels."""
DIGITS_AN_IMAGE = (1, 7)
"""Fewest and most digits per image that are tried."""
VAL_DIGITS = 300
"""Scanned digits kept for val; they never occur in train."""
SPLITS = {"train": 1500, "val": 200}
"""Number of images of each split."""
LEAST_CONTRAST = 55
"""Least difference between the ink's grey value and the mean grey value of the background, 0..255."""


def generate_digits(root: str | os.PathLike, *, splits: dict[str, int] = SPLITS, seed: int = 0) -> None:
    """Write the dataset to ``root``: train/, val/ (PNG) and instances_train.json, instances_val.json (COCO).

    scikit-learn's 1,797 scanned digits (8x8 pixels, 10 classes) are enlarged to 20-80 px, inked in a random colour with
    enough contrast, and pasted without overlap on random crops of its two sample photographs. The same seed produces
    the same files. ``root`` appears only once it is complete.

    Args:
        root: a folder that does not exist yet.
        splits: number of images of each split; the scanned digits of "val" are not used in the others.
        seed: of all random numbers.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.

    Source: scikit-learn's ``load_digits`` (UCI, Alpaydin and Kaynak 1998, CC BY 4.0) and
    ``load_sample_images`` (CC BY 2.0, see the licence file next to them).
    """
    from sklearn.datasets import load_digits, load_sample_images

    root = Path(root)
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
            image, boxes, labels = _draw_image(rng, photos, digits, pools[split])
            name = f"{index:06d}.png"
            cv2.imwrite(str(work / split / name), image)
            images.append({"id": index + 1, "file_name": name, "width": IMAGE_SIZE, "height": IMAGE_SIZE})
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


def _draw_image(
    rng: np.random.Generator, photos: list[np.ndarray], digits: Any, pool: np.ndarray
) -> tuple[np.ndarray, list[list[int]], list[int]]:
    """Draw one image.

    Args:
        rng: draws everything random.
        photos: backgrounds (h, w, 3) uint8 BGR.
        digits: what scikit-learn's ``load_digits`` returns.
        pool: (n,) indices of the scanned digits that may be used.

    Returns:
        The image (H, W, 3) uint8 BGR, its boxes [x, y, w, h] in pixels, and their digits 0..9.
    """
    image = _crop(rng, photos[rng.integers(len(photos))])
    boxes: list[list[int]] = []
    labels: list[int] = []
    for _ in range(rng.integers(DIGITS_AN_IMAGE[0], DIGITS_AN_IMAGE[1] + 1)):
        which = pool[rng.integers(len(pool))]
        low, high = np.log(DIGIT_SIZE)
        mask = _enlarge(digits.images[which], round(float(np.exp(rng.uniform(low, high)))))
        h, w = mask.shape
        for _ in range(20):  # attempts to find a free place
            x, y = int(rng.integers(0, IMAGE_SIZE - w + 1)), int(rng.integers(0, IMAGE_SIZE - h + 1))
            if all(x >= bx + bw or bx >= x + w or y >= by + bh or by >= y + h for bx, by, bw, bh in boxes):
                _paste(rng, image[y : y + h, x : x + w], mask)
                boxes.append([x, y, w, h])
                labels.append(digits.target[which])
                break
    return image, boxes, labels


def _crop(rng: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """Return a random square of a photograph (h, w, 3), 120-400 px wide, resized to the image size, maybe mirrored."""
    side = int(rng.integers(120, 401))
    x, y = int(rng.integers(0, photo.shape[1] - side + 1)), int(rng.integers(0, photo.shape[0] - side + 1))
    crop = cv2.resize(photo[y : y + side, x : x + side], (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)
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
