"""The page on which a person accepts or rejects corrections of annotations."""

import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from retina_plugin.analysis.detections import Detections
from retina_plugin.analysis.review import KINDS, Candidate
from retina_plugin.report.page import jpeg_uri, write_page
from retina_plugin.report.render import render

logger = logging.getLogger(__name__)

CONTEXT = 1.0
"""Width of the surroundings of a box on its picture, in sides of the box, on each side."""

LEAST_CROP = 96
"""Minimum side of the part of an image that is shown, pixels of the image."""

PICTURE_WIDTH = 300
"""Width of a picture, pixels."""


def write_review(
    candidates: Sequence[Candidate],
    detections: Detections,
    file: str | os.PathLike,
    *,
    coco: dict,
    download: str,
    where: str,
    read: Callable[[str], np.ndarray],
) -> Path:
    """Write the page. It works offline; what a person decides is kept by the browser and saved as a file on request.

    Args:
        candidates: in the order of the page.
        detections: that they come from.
        file: to write.
        coco: the annotations to correct, with the ids of ``detections.coco``.
        download: name of the file of corrected annotations.
        where: sentence on what to do with it.
        read: reads an image file as (H, W, 3) uint8, BGR.
    """
    content = {
        "id": hashlib.sha256(repr((str(detections.source), list(candidates))).encode()).hexdigest()[:16],
        "file": download,
        "kinds": KINDS,
        "coco": coco,
        "candidates": _cards(candidates, detections, read),
    }
    images = len({x.image for x in candidates})
    text = render(
        "review.html",
        title=f"Review of {detections.dataset}",
        subtitle=f"{len(candidates)} suspected mistakes in {images} of {len(detections.coco['images'])} images, "
        f"{len(detections.coco['annotations'])} annotations",
        file=download,
        where=where,
        data=content,
    )
    write_page(text, file)
    return Path(file)


def _cards(
    candidates: Sequence[Candidate], detections: Detections, read: Callable[[str], np.ndarray]
) -> list[dict[str, Any]]:
    """Return what the page shows of each candidate; images are read once each."""
    files = {x["id"]: x["file_name"] for x in detections.coco["images"]}
    by_image: dict[int, list[dict]] = {}
    for x in detections.coco["annotations"]:
        by_image.setdefault(x["image_id"], []).append(x)
    cards: dict[int, dict[str, Any]] = {}
    order = sorted(range(len(candidates)), key=lambda i: candidates[i].image)
    for number, numbers in itertools.groupby(order, key=lambda i: candidates[i].image):
        try:
            pixels = read(files[number])
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be shown and is not on the page: %s", files[number], error)
            continue
        for i in numbers:
            cards[i] = {
                "file": os.path.basename(files[number]),
                **_card(candidates[i], by_image.get(number, []), pixels),
            }
    return [cards[i] for i in sorted(cards)]


def _card(one: Candidate, annotations: Sequence[dict], pixels: np.ndarray) -> dict[str, Any]:
    """Return what the page shows of a candidate.

    Args:
        one: the candidate.
        annotations: of its image.
        pixels: (H, W, 3) uint8, BGR.
    """
    annotation = next((x for x in annotations if x["id"] == one.annotation), None)
    boxes = [x for x in (one.box, annotation and annotation["bbox"]) if x]
    crop = crop_around(boxes, pixels.shape[:2])
    return {
        "kind": one.kind,
        "image": one.image,
        "suspicion": round(one.suspicion, 4),
        "annotation": annotation
        and {"id": annotation["id"], "bbox": annotation["bbox"], "label": annotation["category_id"] - 1},
        "box": None if one.box is None else [round(v, 2) for v in one.box],
        "label": one.label,
        "others": [y for x in annotations if x is not annotation and (y := clipped(x["bbox"], crop))],
        "crop": crop,
        "picture": _picture(pixels, crop),
    }


def crop_around(boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> list[int]:
    """Return the part of an image (x, y, width, height) that shows boxes and their surroundings.

    Args:
        boxes: XYWH, pixels.
        size: (height, width) of the image.

    Example:
        >>> crop_around([(100, 100, 50, 50)], (400, 400))
        [50, 50, 150, 150]
        >>> crop_around([(0, 0, 2, 2)], (400, 60))
        [0, 0, 60, 96]
    """
    low = np.array([[x, y] for x, y, _, _ in boxes]).min(axis=0)
    high = np.array([[x + w, y + h] for x, y, w, h in boxes]).max(axis=0)
    sides = np.maximum((high - low) * (1 + 2 * CONTEXT), LEAST_CROP)
    limits = np.array([size[1], size[0]])
    sides = np.minimum(np.ceil(sides), limits)
    start = np.clip(np.round((low + high - sides) / 2), 0, limits - sides)
    return [int(v) for v in (*start, *sides)]


def clipped(box: Sequence[float], crop: Sequence[int]) -> list[float] | None:
    """Return the part of a box inside a crop, both XYWH; None if there is none.

    Example:
        >>> clipped([0, 0, 20, 20], [10, 5, 100, 100])
        [10, 5, 10, 15]
    """
    low = [max(box[i], crop[i]) for i in (0, 1)]
    sides = [min(box[i] + box[i + 2], crop[i] + crop[i + 2]) - low[i] for i in (0, 1)]
    return [*low, *sides] if min(sides) > 0 else None


def _picture(pixels: np.ndarray, crop: Sequence[int]) -> str:
    """Return a part of an image (H, W, 3) as the address of a JPEG of the usual width."""
    x, y, w, h = crop
    part = pixels[y : y + h, x : x + w]
    scale = PICTURE_WIDTH / max(w, h)
    size = max(1, round(w * scale)), max(1, round(h * scale))
    return jpeg_uri(cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
