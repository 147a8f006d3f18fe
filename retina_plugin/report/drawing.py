"""Boxes on images."""

import cv2
import numpy as np

PALETTE = np.array(
    [[75, 25, 230], [75, 180, 60], [200, 130, 0], [49, 130, 245], [180, 30, 145], [170, 160, 30],
     [230, 50, 240], [40, 110, 170], [128, 60, 40], [0, 128, 128]], dtype=np.uint8
)
"""Colours of the classes (BGR), repeated for more than ten."""


def draw_boxes(image: np.ndarray, boxes: np.ndarray, labels: list[str], classes: list[int], *, scale: float = 1.0, colours: np.ndarray = PALETTE) -> np.ndarray:
    """Draw labelled boxes on an enlarged copy of an image.

    Args:
        image: (H, W, 3) uint8, BGR.
        boxes: (D, 4) XYXY pixels of ``image``.
        labels: D texts.
        classes: D indices into the colours, counted round.
        scale: of the result to the image.
        colours: (n, 3) uint8, BGR.

    Returns:
        (H·scale, W·scale, 3) uint8, BGR.
    """
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    height, width = canvas.shape[:2]
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    for box, label, k in zip(boxes, labels, classes, strict=True):
        colour = tuple(int(c) for c in colours[k % len(colours)])
        x1, y1, x2, y2 = (int(round(v)) for v in np.asarray(box, dtype=float) * scale)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 2, cv2.LINE_AA)
        (w, h), _ = cv2.getTextSize(label, font, size, 1)
        left = min(max(x1 - 1, 0), max(width - w - 6, 0))
        top = y1 - h - 7 if y1 >= h + 7 else min(y1 + 1, height - h - 7)  # above the box, else inside it
        cv2.rectangle(canvas, (left, top), (left + w + 6, top + h + 7), colour, -1)
        cv2.putText(canvas, label, (left + 3, top + h + 3), font, size, (255, 255, 255), 1, cv2.LINE_AA)
    return canvas


def sheet(images: list[np.ndarray], *, columns: int, gap: int = 6) -> np.ndarray:
    """Images in rows, each in a cell as large as the largest.

    Args:
        images: (H, W, 3) uint8 of any size; at least one.
        columns: in a row.
        gap: pixels of white between them.
    """
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    cells = [cv2.copyMakeBorder(x, gap, height - x.shape[0], gap, width - x.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255)) for x in images]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)])
