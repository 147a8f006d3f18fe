"""Whether the objects of a dataset look the same in a mirror and upside down, from the pixels in their boxes."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

SIDE = 16
"""Side of the patches that are compared, pixels."""

LEAST_SIDE = 6
"""Objects with a shorter side, in pixels of the image that was read, show no shape."""

MOST_PATCHES = 500
"""Objects of a class that are compared; the test takes time that is quadratic in it."""

PERMUTATIONS = 999

LEAST_OBJECTS = 30
"""Objects of a class below which it is not judged alone: they may all be in one image."""

CERTAINLY = 1 / (1 + PERMUTATIONS)
"""Smallest p value that the test can give; that of a class has to reach it, because there may be many classes."""

FLIPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored": lambda x: x[:, :, ::-1],
    "upside_down": lambda x: x[:, ::-1],
    "turned": lambda x: x.transpose(0, 2, 1),
}
"""Changes of patches (m, SIDE, SIDE): left and right exchanged, top and bottom, rows and columns."""


class Symmetry(NamedTuple):
    """How much the average object of a class differs from its changed self.

    Attributes:
        asymmetry: share of the shape that all objects of a class have in common which the change turns around: 0 if it
            looks the same, 0.5 if it looks like any other shape.
        p: probability of an asymmetry as large if the objects showed no preference; small if they do.
        objects: number of objects that were compared.
        worst: largest asymmetry of a class of ``LEAST_OBJECTS`` whose own p value is ``CERTAINLY``; 0 without one.
    """

    asymmetry: float
    p: float
    objects: int
    worst: float = 0.0


def patch_of(grey: np.ndarray, box: Sequence[float]) -> np.ndarray | None:
    """Return the edges in a box, scaled to (SIDE, SIDE), of mean 0 and deviation 1; None if there is nothing to see.

    Edges, because an object may be brighter or darker than its background.

    Args:
        grey: image (h, w).
        box: XYXY, pixels of the image.
    """
    x1, y1, x2, y2 = (max(0, round(v)) for v in box)
    part = grey[y1:y2, x1:x2]
    if min(part.shape, default=0) < LEAST_SIDE:
        return None
    patch = cv2.resize(np.ascontiguousarray(part, dtype=np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    edges = np.hypot(cv2.Sobel(patch, cv2.CV_32F, 1, 0), cv2.Sobel(patch, cv2.CV_32F, 0, 1))
    edges -= edges.mean()
    deviation = float(edges.std())
    return edges / deviation if deviation > 1e-3 else None


def symmetries(patches: Mapping[int, Sequence[np.ndarray]], *, seed: int = 0) -> dict[str, Symmetry]:
    """Compare the average patch of each class with its changed self.

    For one patch x and its change f(x), d = (x - f(x)) / 2 is the part that changes sign. If the class shows no
    preference, d and -d are equally likely, so that the distribution of the squared length of the mean of d follows
    from random signs (a permutation test). The asymmetry is that squared length relative to that of the mean of x, both
    without the bias that comes from averaging few patches, and summed over the classes.

    Args:
        patches: label -> patches (SIDE, SIDE) of :func:`patch_of`.
        seed: of the random signs.

    Returns:
        The result for each of :data:`FLIPS`; empty if no class has two patches.
    """
    classes = [np.array(some[:MOST_PATCHES]) for some in patches.values() if len(some) > 1]
    if not classes:
        return {}
    found = {}
    for name, flip in FLIPS.items():
        rng = np.random.default_rng(seed)
        changing, whole, chance, worst = 0.0, 0.0, np.zeros(PERMUTATIONS), 0.0
        for x in classes:
            count = len(x)
            products = [part @ part.T for part in (((x - flip(x)) / 2).reshape(count, -1), x.reshape(count, -1))]
            for matrix in products:
                np.fill_diagonal(matrix, 0)
            own, all_of_it = (float(matrix.sum() / (count - 1)) for matrix in products)
            signs = rng.choice([-1.0, 1.0], (PERMUTATIONS, count))
            by_chance = ((signs @ products[0]) * signs).sum(axis=1) / (count - 1)
            if count >= LEAST_OBJECTS and _p_value(own, by_chance) <= CERTAINLY:
                worst = max(worst, _share(own, all_of_it))
            changing, whole, chance = changing + own, whole + all_of_it, chance + by_chance
        p, count = _p_value(changing, chance), sum(map(len, classes))
        found[name] = Symmetry(round(_share(changing, whole), 4), round(p, 4), count, round(worst, 4))
    return found


def _share(changing: float, whole: float) -> float:
    """Return the asymmetry: the part that changes sign relative to the whole, from 0 on."""
    return max(0.0, changing) / whole if whole > 0 else 0.0


def _p_value(found: float, by_chance: np.ndarray) -> float:
    """Return the p value of a permutation test."""
    return float((1 + (by_chance >= found).sum()) / (1 + len(by_chance)))
