"""A validation split in which every class has its share."""

from collections import Counter
from collections.abc import Sequence

from retina_plugin.data.load import part_of

MOST_SEEDS, MOST_HASHES = 200, 400_000
"""Orders of the images that are tried, and the images that are ordered in all, which takes about a second."""

ABSENT = 100.0
"""Cost of a class that a split could have an image of, but has none."""


def best_seed(records: Sequence[dict], share: float) -> int:
    """Return the seed of :func:`retina_plugin.data.load.part_of` with which the last share has all classes fairly.

    Args:
        records: all images to divide.
        share: of the images that are held out, 0..1.

    Returns:
        Of the seeds 0, 1, 2, ..., the first with the lowest cost; see :func:`imbalance`.
    """
    images = list(records)
    present = [_classes(record) for record in images]
    total = Counter(label for some in present for label in some)
    tried = min(MOST_SEEDS, 1 + MOST_HASHES // max(1, len(images)))
    index = {id(record): i for i, record in enumerate(images)}

    def cost(seed: int) -> float:
        """Return the cost of the split of a seed."""
        held = part_of(images, 1 - share, 1.0, seed=seed)
        return imbalance(total, Counter(label for record in held for label in present[index[id(record)]]), share)

    return min(range(tried), key=cost)


def imbalance(total: Counter, held: Counter, share: float) -> float:
    """Return how far the held-out images of each class are from their share.

    It is the sum over the classes (and over the images without any) of the squared difference, relative to the variance
    that a random split has; a class with at least two images that is absent on one side costs ``ABSENT``.

    Args:
        total: number of images by class.
        held: the same, of the images that are held out.
        share: that should be held out.

    Example:
        >>> imbalance(Counter({0: 10}), Counter({0: 2}), 0.2)
        0.0
        >>> imbalance(Counter({0: 10}), Counter({0: 4}), 0.2)  # 2 too many; the variance is 10 * 0.2 * 0.8
        2.5
    """
    cost = 0.0
    for label, count in total.items():
        cost += (held[label] - share * count) ** 2 / (share * (1 - share) * count)
        if count > 1 and held[label] in (0, count):
            cost += ABSENT
    return round(cost, 9)


def _classes(record: dict) -> set[int]:
    """Return the labels in an image; -1 stands for none."""
    return {x["category_id"] for x in record.get("annotations") or () if not x.get("iscrowd")} or {-1}
