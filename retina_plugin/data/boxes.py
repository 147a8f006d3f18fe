"""Checks which boxes can be used."""

import numpy as np

from retina_plugin.data.values import as_number

TOLERANCE = 1.0
"""Pixels by which a box may extend beyond its image without being reported; rounding causes as much."""

FAULTS = (
    "",
    "has values that are not finite",
    "has its corners swapped (expected x1 < x2 and y1 < y2)",
    "has zero size",
    "lies outside the image of {w:g}x{h:g}",
)
"""What is wrong with a box that is left out, by fault number; 0 means nothing."""


def checked_boxes(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clip boxes to their images and find those that cannot be used.

    Args:
        boxes: (M, 4) XYXY, pixels of the original image.
        sizes: (M, 2) height and width of the image of each box, pixels.

    Returns:
        (M, 4) boxes inside their images, (M,) int8 index into ``FAULTS``, and (M,) bool, whether a box extended beyond
        its image by more than ``TOLERANCE``.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        x1, y1, x2, y2 = boxes.T
        height, width = sizes.T
        fault = np.zeros(len(boxes), dtype=np.int8)
        fault[(x1 >= width) | (y1 >= height) | (x2 <= 0) | (y2 <= 0)] = 4
        fault[(x2 == x1) | (y2 == y1)] = 3
        fault[(x2 < x1) | (y2 < y1)] = 2
        fault[~np.isfinite(boxes).all(axis=1)] = 1
        limits = np.stack([width, height, width, height], axis=1)
        clipped = np.minimum(np.maximum(boxes, 0.0), limits)
        fault[(fault == 0) & ((clipped[:, 2] <= clipped[:, 0]) | (clipped[:, 3] <= clipped[:, 1]))] = 3
        beyond = (fault == 0) & (np.abs(clipped - boxes).max(axis=1, initial=0) > TOLERANCE)
    return clipped, fault, beyond


def fault_of(number: int, box: np.ndarray, size: np.ndarray) -> str:
    """Describe in a message what is wrong with a box.

    Args:
        number: index into ``FAULTS``, from :func:`checked_boxes`.
        box: (4,) XYXY, pixels of the original image.
        size: (2,) height and width of its image, pixels.
    """
    return f"box {[round(float(v), 2) for v in box]} {FAULTS[number].format(h=size[0], w=size[1])}"


def extent(points: object) -> list[float] | None:
    """Return the box XYXY around polygons: COCO's list of flat lists, one flat list, or pairs.

    Returns:
        Four numbers; NaNs if a coordinate is not finite, None if ``points`` is not a polygon.

    Example:
        >>> extent([[4, 4, 24, 4, 24, 24]]), extent([4, 4, 24, 24]), extent([[1, 2], [3, 4]]), extent([[1, "a"]])
        ([4.0, 4.0, 24.0, 24.0], [4.0, 4.0, 24.0, 24.0], [1.0, 2.0, 3.0, 4.0], None)
    """
    if not isinstance(points, (list, tuple)) or not points:
        return None
    flat = [value for part in points for value in (part if isinstance(part, (list, tuple)) else [part])]
    numbers = [number for value in flat if (number := as_number(value)) is not None]
    if len(numbers) < 4 or len(numbers) % 2 or len(numbers) < len(flat):
        return None
    if not np.isfinite(numbers).all():
        return [np.nan] * 4  # whether min and max skip a NaN depends on its position
    xs, ys = numbers[0::2], numbers[1::2]
    return [min(xs), min(ys), max(xs), max(ys)]
