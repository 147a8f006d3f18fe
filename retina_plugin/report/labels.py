"""Placement of box labels: next to their box, over no small box and over no other label."""

import numpy as np

SMALL_SIDE = 28
"""Pixels of the picture; no label may cover any part of a box with a side below this, including its own box."""

MOST_COVERED, MOST_OF_ITS_OWN = 0.12, 0.2
"""Shares of a larger box that the label of a different box, and its own label, may cover."""

MOST_CHARACTERS = 26
"""Maximum length of a label; a longer one is shortened in the middle."""


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    r"""Return a label as one short line; its end, which holds the score, is kept.

    Example:
        >>> one_line("a name with\na line break")
        'a name with a line break'
        >>> one_line("a" * 40 + " 0.93")
        'aaaaaaaaaaaaaaaaa...a 0.93'
    """
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= most else f"{plain[: most - 9]}...{plain[-6:]}"


def place_labels(
    boxes: np.ndarray,
    sizes: np.ndarray,
    *,
    width: int,
    height: int,
    order: np.ndarray | None = None,
    taken: np.ndarray | None = None,
) -> list[tuple[int, int] | None]:
    """Find a place for each label.

    A label that would hide a small box, much of a large one, or another label gets none.

    Args:
        boxes: (D, 4) XYXY, pixels of the picture.
        sizes: (D, 2) (width, height) of each label, pixels.
        width: width of the picture, pixels.
        height: height of the picture, pixels.
        order: (D,) indices in the order in which places are assigned; None for the order of the boxes.
        taken: (T, 4) XYXY, places that are already occupied.

    Returns:
        D corners (left, top), None for a label to leave out.
    """
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    small, areas = sides.min(axis=1) < SMALL_SIDE, np.maximum(sides.prod(axis=1), 1.0)
    labels: list[np.ndarray] = [] if taken is None else list(taken)
    places: list[tuple[int, int] | None] = [None] * len(boxes)
    for i in range(len(boxes)) if order is None else order:
        w, h = sizes[i]
        rects = _candidates(boxes[i], w, h, width, height)
        if not len(rects):
            continue
        covered = _shared(rects, boxes)  # (candidates, D)
        shares = covered / areas
        limits = np.full(len(boxes), MOST_COVERED)
        limits[i] = MOST_OF_ITS_OWN
        free = ~(covered[:, small] > 0).any(axis=1) & (shares <= limits).all(axis=1)
        if labels:
            free &= ~(_shared(rects, np.array(labels)) > 0).any(axis=1)
        if free.any():
            cost = np.where(free, shares.sum(axis=1) + 0.02 * np.arange(len(rects)), np.inf)
            best = rects[int(cost.argmin())]
            places[i] = (int(best[0]), int(best[1]))
            labels.append(best)
    return places


def _candidates(box: np.ndarray, w: int, h: int, width: int, height: int) -> np.ndarray:
    """Return candidate places (n, 4) XYXY for a label of size (w, h) inside the picture, best first.

    They are above the box (4,), inside, below, right and left of it, moved sideways at the border of the picture.
    """
    x1, y1, x2, y2 = np.floor(box[0]), np.floor(box[1]), np.ceil(box[2]), np.ceil(box[3])
    corners = [
        (x1, y1 - h),
        (x2 - w, y1 - h),
        (x1, y1),
        (x2 - w, y1),
        (x1, y2),
        (x2 - w, y2),
        (x1, y2 - h),
        (x2, y1),
        (x1 - w, y1),
    ]
    inside = []
    for x, y in corners:
        x = min(max(x, 0), width - w)
        if x >= 0 and 0 <= y <= height - h:
            inside.append((x, y, x + w, y + h))
    return np.array(inside).reshape(-1, 4)


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the areas (n, m) shared by boxes (n, 4) and (m, 4), XYXY; a box without area counts as one pixel."""
    end = np.maximum(b[:, 2:], b[:, :2] + 1)
    sides = np.minimum(a[:, None, 2:], end[None]) - np.maximum(a[:, None, :2], b[None, :, :2])
    return np.clip(sides, 0, None).prod(axis=2)
