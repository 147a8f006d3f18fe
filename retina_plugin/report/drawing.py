"""Drawing boxes and their labels on images."""

from collections.abc import Sequence

import cv2
import numpy as np

from retina_plugin.report.labels import one_line, place_labels

_SAFE = [[0, 94, 213], [178, 114, 0], [115, 158, 0], [0, 159, 230], [233, 180, 86], [167, 121, 204], [66, 228, 240]]
PALETTE = np.array(_SAFE + [[int(0.6 * c) for c in colour] for colour in _SAFE], dtype=np.uint8)
"""Colours of the classes (BGR), repeated after 14.

Seven that colour-blind people can distinguish (Okabe and Ito 2008, Color Universal Design), then the same, darker.
"""

Colour = Sequence[int] | np.ndarray
"""Blue, green, red, 0-255."""

FONT, WHITE, GREY = cv2.FONT_HERSHEY_SIMPLEX, (255, 255, 255), (60, 60, 60)
TEXT_SIZES = (0.42, 0.34)
"""Font scales of labels; the smaller one if the larger does not fit, or with more than ``MANY`` boxes."""

MANY, CROWD = 15, 40
"""Numbers of boxes; with more than ``CROWD``, the most common classes have no labels, only their colour."""

LEAST_SIDE = 3
"""Minimum side of a drawn box in pixels of the picture, so that a box of one pixel is visible."""

LINED_SIDE = 24
"""Side in pixels from which on a box has a thicker line with a thin white or black one around it.

The second line keeps dark colours visible on dark images.
"""

READABLE_SIDE = 20
"""Pixels to which the shorter side of a picture's median box is enlarged, within ``MOST_WIDTH``."""

MOST_WIDTH = 1060
"""Maximum longer side in pixels that ``fitting_scale`` chooses; the width of a page."""


def fitting_scale(size: tuple[int, int], boxes: np.ndarray, *, width: int) -> float:
    """Return the scale at which to show an image with its boxes.

    It makes the image ``width`` wide, larger if its boxes are small, smaller if the image is very high.

    Args:
        size: (height, width) of the image.
        boxes: (D, 4) XYXY, pixels of the image.
        width: usual width of a picture, pixels.

    Example:
        >>> fitting_scale((100, 100), np.array([[0, 0, 50, 50]]), width=200)
        2.0
        >>> fitting_scale((100, 100), np.array([[0, 0, 4, 50]]), width=200)  # 4 px become 20
        5.0
        >>> fitting_scale((10000, 100), np.zeros((0, 4)), width=200)  # not 20000 px high
        0.106
    """
    scale, most = width / size[1], max(MOST_WIDTH, width) / max(size)
    if len(boxes):
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0).min(axis=1)
        scale = max(scale, READABLE_SIDE / float(np.median(sides)))
    return min(scale, most)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[str],
    classes: Sequence[int],
    *,
    scale: float = 1.0,
    colours: np.ndarray = PALETTE,
    dashed: Sequence[int] = (),
) -> np.ndarray:
    """Draw labelled boxes on a scaled copy of an image; a label that would hide a small box is left out.

    Args:
        image: (H, W, 3) uint8, BGR.
        boxes: (D, 4) XYXY, pixels of ``image``.
        labels: D texts.
        classes: D indices into the colours, modulo their number.
        scale: size of the result relative to the image.
        colours: (n, 3) uint8, BGR.
        dashed: the classes whose boxes are dashed.

    Returns:
        (H·scale, W·scale, 3) uint8, BGR; at least one pixel on each side.
    """
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    canvas = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    scales = np.tile((width / image.shape[1], height / image.shape[0]), 2)
    corners = _drawn_corners(np.asarray(boxes, dtype=float).reshape(-1, 4) * scales, width, height)
    areas = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    for i in np.argsort(-areas, kind="stable"):  # small boxes last, on top of large ones
        _draw_box(canvas, corners[i], _colour(colours, classes[i]), dashed=classes[i] in dashed)
    _draw_labels(canvas, corners, [one_line(label) for label in labels], list(classes), colours, areas)
    return canvas


def _drawn_corners(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the first and the past-the-last pixel (D, 4) of each box (D, 4) inside the picture.

    No side is below ``LEAST_SIDE``, unless the picture itself is smaller.
    """
    ends = np.array([width, height])
    low, high = np.round(boxes[:, :2]), np.round(boxes[:, 2:])
    grow = np.maximum(LEAST_SIDE - (high - low), 0)
    low = np.clip(low - grow // 2, 0, np.maximum(ends - LEAST_SIDE, 0))
    high = np.minimum(np.maximum(np.clip(high, 0, ends), low + LEAST_SIDE), ends)
    return np.concatenate([low, high], axis=1).astype(int)


def _draw_box(canvas: np.ndarray, corners: np.ndarray, colour: tuple[int, int, int], *, dashed: bool) -> None:
    """Draw the outline of a box, (4,) integer corners, on the canvas (H, W, 3)."""
    x1, y1, x2, y2 = (int(v) for v in corners)
    side = min(x2 - x1, y2 - y1)
    thick = 1 if side < LINED_SIDE else 2  # drawn inwards
    if side >= LINED_SIDE:
        cv2.rectangle(canvas, (x1 - 1, y1 - 1), (x2, y2), _text_colour(colour), 1)
    edges = [
        (slice(y1, y1 + thick), slice(x1, x2)),
        (slice(y2 - thick, y2), slice(x1, x2)),
        (slice(y1, y2), slice(x1, x1 + thick)),
        (slice(y1, y2), slice(x2 - thick, x2)),
    ]
    for rows, columns in edges:
        edge = canvas[rows, columns]
        if dashed and side >= 12:
            along = np.arange(max(edge.shape[:2])) % 8 < 5
            edge[(slice(None), along) if edge.shape[1] > edge.shape[0] else along] = colour
        else:
            edge[:] = colour


def _draw_labels(
    canvas: np.ndarray,
    corners: np.ndarray,
    labels: list[str],
    classes: list[int],
    colours: np.ndarray,
    areas: np.ndarray,
) -> None:
    """Write the labels on the canvas (H, W, 3).

    The rarest classes and the largest boxes get their place first; in a crowd the common classes have no labels.
    """
    height, width = canvas.shape[:2]
    counts = np.array([classes.count(k) for k in classes])
    waiting, taken = np.lexsort((-areas, counts)), np.zeros((0, 4))
    if len(labels) > CROWD:
        waiting = waiting[counts[waiting] <= CROWD // 4]
    for text_size in TEXT_SIZES if len(labels) <= MANY else TEXT_SIZES[1:]:
        pad = 3 if text_size == TEXT_SIZES[0] else 2
        texts = [cv2.getTextSize(label, FONT, text_size, 1)[0] for label in labels]
        sizes = np.array([(w + 2 * pad, h + 2 * pad) for w, h in texts]).reshape(-1, 2)
        places = place_labels(corners, sizes, width=width, height=height, order=waiting, taken=taken)
        for i in waiting:
            if labels[i] and places[i]:
                (left, top), (w, h), colour = places[i], sizes[i].tolist(), _colour(colours, classes[i])
                canvas[top : top + h, left : left + w] = colour
                start, ink = (left + pad, top + h - pad), _text_colour(colour)
                cv2.putText(canvas, labels[i], start, FONT, text_size, ink, 1, cv2.LINE_AA)
                taken = np.vstack([taken, [left, top, left + w, top + h]])
        waiting = np.array([i for i in waiting if not places[i]], dtype=int)


def _colour(colours: np.ndarray, k: int) -> tuple[int, int, int]:
    """Return colour k, modulo their number, of colours (n, 3), as OpenCV expects it."""
    b, g, r = colours[k % len(colours)].tolist()
    return b, g, r


def _text_colour(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return white for a dark background, black for a light one (luma of BT.601)."""
    b, g, r = background
    return WHITE if 0.114 * b + 0.587 * g + 0.299 * r < 150 else (0, 0, 0)


def legend(entries: Sequence[tuple[str, Colour]], width: int) -> np.ndarray:
    """Draw a white strip with a coloured square and a text for each entry, on as many lines as needed.

    Args:
        entries: texts and colours.
        width: width of the strip, pixels.

    Returns:
        (H, width, 3) uint8, BGR.
    """
    line, square = 22, 12
    left, top = 6, 0
    places: list[tuple[int, int]] = []
    for text, _ in entries:
        needed = square + 18 + cv2.getTextSize(one_line(text, 60), FONT, TEXT_SIZES[0], 1)[0][0]
        if left > 6 and left + needed > width:
            left, top = 6, top + line
        places.append((left, top))
        left += needed
    strip = np.full((top + line, width, 3), 255, np.uint8)
    for (text, colour), (x, y) in zip(entries, places, strict=True):
        strip[y + 5 : y + 5 + square, x : x + square] = colour
        cv2.putText(strip, one_line(text, 60), (x + square + 5, y + 16), FONT, TEXT_SIZES[0], GREY, 1, cv2.LINE_AA)
    return strip


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """Return an image (H, W, 3) with a line of text below it, (H + 20, W, 3)."""
    strip = np.full((20, image.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (1, 14), FONT, TEXT_SIZES[0], GREY, 1, cv2.LINE_AA)
    return np.vstack([image, strip])


def sheet(images: list[np.ndarray], *, columns: int, gap: int = 6) -> np.ndarray:
    """Arrange images in a grid; each cell is as wide as the widest image and as high as the highest of its row.

    Args:
        images: (H, W, 3) uint8 of any size; at least one.
        columns: images per row.
        gap: pixels of white between them.
    """
    width = max(image.shape[1] for image in images)
    cells = [_padded(x, right=width - x.shape[1]) for x in images]
    cells += [np.full((1, width, 3), 255, np.uint8)] * (-len(images) % columns)
    return np.vstack([_row(cells[i : i + columns], gap) for i in range(0, len(cells), columns)])


def flow(images: list[np.ndarray], *, width: int, gap: int = 6) -> np.ndarray:
    """Arrange images of different widths in rows, each as full as possible.

    Args:
        images: (H, W, 3) uint8 of any size; at least one.
        width: width of a row, pixels; a wider image gets a row of its own.
        gap: pixels of white between them.
    """
    rows: list[list[np.ndarray]] = [[]]
    for image in images:
        if rows[-1] and sum(x.shape[1] + gap for x in rows[-1]) + image.shape[1] + gap > width:
            rows.append([])
        rows[-1].append(image)
    drawn = [_row(row, gap) for row in rows]
    widest = max(row.shape[1] for row in drawn)
    return np.vstack([_padded(row, right=widest - row.shape[1]) for row in drawn])


def _row(images: list[np.ndarray], gap: int) -> np.ndarray:
    """Return images (H, W, 3) side by side, with a gap above and left of each."""
    height = max(image.shape[0] for image in images)
    return np.hstack([_padded(x, top=gap, bottom=height - x.shape[0], left=gap) for x in images])


def _padded(image: np.ndarray, *, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0) -> np.ndarray:
    """Return an image (H, W, 3) with white borders of so many pixels."""
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=WHITE)
