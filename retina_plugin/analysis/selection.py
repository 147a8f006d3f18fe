"""Which unlabelled images to label next: those a detector is unsure about and that differ from one another."""

import math
from collections.abc import Sequence

import numpy as np


def image_uncertainty(scores: np.ndarray, labels: np.ndarray, thresholds: Sequence[float]) -> float:
    """Return how unsure a detector is about an image: the entropy of its detections, summed, in bits.

    A score s counts as the probability s ** g, with g such that the threshold of its class, which is where a detection
    is as good as not, has the probability 0.5.

    Args:
        scores: (D,) 0..1.
        labels: (D,) 0..K-1.
        thresholds: K scores, above 0 and below 1.

    Source: the sum over detections is that of Yang et al. 2024, *Plug and Play Active Learning for Object Detection*,
    equation 4, without its weights.

    Example:
        >>> image_uncertainty(np.array([0.25, 0.999999]), np.array([0, 1]), [0.25, 0.5])  # one at its threshold
        1.0
    """
    if not len(scores):
        return 0.0
    exponents = np.array([math.log(0.5) / math.log(min(max(t, 1e-6), 1 - 1e-6)) for t in thresholds])
    p = np.clip(np.asarray(scores, dtype=np.float64) ** exponents[labels], 1e-12, 1 - 1e-12)
    return round(float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum()), 4)


def choose_images(uncertainties: np.ndarray, features: np.ndarray, budget: int) -> list[int]:
    """Choose images one after another: the most unsure first, then always the one that is unsure and unlike the others.

    Each choice has the largest product of its uncertainty and its distance (1 - cosine) to the nearest chosen image, so
    that of many frames of one scene only a few are chosen.

    Args:
        uncertainties: (n,) at least 0; images with 0 are chosen last.
        features: (n, C) descriptions of the images.
        budget: number of images; all are returned if there are no more.

    Returns:
        Indices in the order of choice.

    Example:
        >>> choose_images(np.array([3.0, 2.9, 1.0]), np.array([[1.0, 0], [0.99, 0.01], [0, 1]]), 2)
        [0, 2]
    """
    count = len(uncertainties)
    standard = features - features.mean(axis=0)
    spread = standard.std(axis=0)
    standard = standard / np.where(spread > 0, spread, 1)
    lengths = np.linalg.norm(standard, axis=1, keepdims=True)
    directions = standard / np.where(lengths > 0, lengths, 1)
    weights = np.asarray(uncertainties, dtype=np.float64) + 1e-9
    nearest = np.full(count, 2.0)  # the largest distance there is
    left = np.ones(count, dtype=bool)
    chosen: list[int] = []
    while len(chosen) < min(budget, count):
        best = int(np.where(left, weights * np.maximum(nearest, 1e-9), -1).argmax())
        chosen.append(best)
        left[best] = False
        nearest = np.minimum(nearest, 1 - directions @ directions[best])
    return chosen
