"""The bundled dataset: handwritten digits on photographs, made from what scikit-learn's wheel contains."""

import json
import logging
import os
import shutil
from pathlib import Path

import cv2
import numpy as np

logger = logging.getLogger(__name__)

IMAGE_SIZE = 192
"""Side of the square images, pixels."""
DIGIT_SIZE = (20, 80)
"""Longer side of a digit's box, pixels."""
DIGITS_AN_IMAGE = (1, 7)
VAL_DIGITS = 300
"""Scanned digits kept for val; they never occur in train."""
SPLITS = {"train": 1500, "val": 200}
"""Images of each split."""
LEAST_CONTRAST = 55
"""Least distance between the ink's grey value and the mean grey value below it, of 255."""


def generate_digits(root: str | os.PathLike, *, splits: dict[str, int] = SPLITS, seed: int = 0) -> None:
    """Write the dataset to ``root``: train/, val/ (PNG) and instances_train.json, instances_val.json (COCO).

    scikit-learn's 1,797 scanned digits (8x8 pixels, 10 classes) are enlarged to 20-80 px, inked in a
    random grey or colour that stands out, and pasted without overlap on random crops of its two
    sample photographs. The same seed gives the same files. ``root`` appears only once it is complete.

    Args:
        root: a folder that does not exist yet.
        splits: images of each split; the digits of "val" are kept out of the others.
        seed: of everything random.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.

    Source: scikit-learn's ``load_digits`` (UCI, Alpaydin and Kaynak 1998, CC BY 4.0) and
    ``load_sample_images`` (CC BY 2.0, see the licence file beside them).
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
        images, annotations = [], []
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
    except OSError:  # another process was first; what it made is the same
        shutil.rmtree(work)


def _draw_image(
    rng: np.random.Generator, photos: list[np.ndarray], digits, pool: np.ndarray
) -> tuple[np.ndarray, list, list]:
    """One image (H, W, 3) uint8 BGR, its boxes [x, y, w, h] and their digits."""
    image = _crop(rng, photos[rng.integers(len(photos))])
    boxes, labels = [], []
    for _ in range(rng.integers(DIGITS_AN_IMAGE[0], DIGITS_AN_IMAGE[1] + 1)):
        which = pool[rng.integers(len(pool))]
        low, high = np.log(DIGIT_SIZE)
        mask = _enlarge(digits.images[which], round(float(np.exp(rng.uniform(low, high)))))
        h, w = mask.shape
        for _ in range(20):  # tries to find a free place
            x, y = int(rng.integers(0, IMAGE_SIZE - w + 1)), int(rng.integers(0, IMAGE_SIZE - h + 1))
            if all(x >= bx + bw or bx >= x + w or y >= by + bh or by >= y + h for bx, by, bw, bh in boxes):
                _paste(rng, image[y : y + h, x : x + w], mask)
                boxes.append([x, y, w, h])
                labels.append(digits.target[which])
                break
    return image, boxes, labels


def _crop(rng: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """A random square of the photograph, 120-400 px wide, at the size of the images, perhaps mirrored."""
    side = int(rng.integers(120, 401))
    x, y = int(rng.integers(0, photo.shape[1] - side + 1)), int(rng.integers(0, photo.shape[0] - side + 1))
    crop = cv2.resize(photo[y : y + side, x : x + side], (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _enlarge(scan: np.ndarray, longer_side: int) -> np.ndarray:
    """The ink (h, w) in 0..1 of an 8x8 scan (0..16), cut to where it is visible and ``longer_side`` px long."""
    big = cv2.resize(scan.astype(np.float32) / 16, (128, 128), interpolation=cv2.INTER_CUBIC)
    ink = np.clip((big - 0.1) / 0.5, 0, 1)  # steepen the soft edge of the enlarged scan, keep its faint strokes
    rows, cols = np.flatnonzero(ink.max(axis=1) > 0.4), np.flatnonzero(ink.max(axis=0) > 0.4)
    ink = ink[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    scale = longer_side / max(ink.shape)
    return cv2.resize(
        ink, (max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale))), interpolation=cv2.INTER_AREA
    )


def _paste(rng: np.random.Generator, region: np.ndarray, mask: np.ndarray) -> None:
    """Ink ``region`` (h, w, 3) through ``mask`` (h, w), in place, in a colour that stands out."""
    background = float(region.mean())
    while True:
        colour = rng.uniform(0, 255, size=3)
        if abs(colour.mean() - background) >= LEAST_CONTRAST:
            break
    region[:] = np.rint(region * (1 - mask[..., None]) + colour * mask[..., None]).astype(np.uint8)
