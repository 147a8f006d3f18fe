"""Which images share a batch: those that need the least padding."""

from collections.abc import Sequence

import numpy as np

POOL_BATCHES = 4
"""Size of the pool of images that wait to be batched, in batches."""

SIMULATED_BATCHES = 50


def best_fitting(sizes: Sequence[Sequence[int]], batch_size: int) -> list[int]:
    """Return the indices of the first image of a pool and of those that need the least padding to share its tensor.

    Args:
        sizes: (height, width) of the images of the pool, the oldest first.
        batch_size: most indices to return.
    """
    # The first image fits itself best, without padding. Sorting is stable: of images that fit equally well, the
    # oldest is taken.
    return sorted(range(len(sizes)), key=lambda i: _growth(sizes[i], sizes[0]))[:batch_size]


def padded_pixels(sizes: Sequence[Sequence[int]], batch_size: int) -> float:
    """Return the mean number of pixels of an image with its padding, in batches drawn from a pool.

    Args:
        sizes: (height, width) of training images; drawn at random, always alike, with repetition.
        batch_size: images per batch.
    """
    generator = np.random.default_rng(0)
    pool: list[Sequence[int]] = []
    total = 0
    for _ in range(SIMULATED_BATCHES):
        missing = POOL_BATCHES * batch_size - len(pool)
        pool += [sizes[i] for i in generator.integers(len(sizes), size=missing)]
        chosen = set(best_fitting(pool, batch_size))
        total += max(pool[i][0] for i in chosen) * max(pool[i][1] for i in chosen)
        pool = [size for i, size in enumerate(pool) if i not in chosen]
    return total / SIMULATED_BATCHES


def _growth(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the pixels of padding if two images share a tensor."""
    area = max(one[0], other[0]) * max(one[1], other[1])
    return 2 * area - one[0] * one[1] - other[0] * other[1]
