"""A validation split with all classes."""

from collections import Counter

import pytest

from retina_plugin.data.load import part_of
from retina_plugin.data.stratify import ABSENT, best_seed, imbalance


def record(number, *labels):
    annotations = [{"category_id": label, "iscrowd": 0} for label in labels]
    return {"image_id": f"image {number}", "annotations": annotations}


def rare():
    """50 images: class 0 in all, class 1 in six, class 2 in two, five images without an object."""
    records = [record(i, 0) for i in range(37)] + [record(40 + i, 0, 1) for i in range(6)]
    return records + [record(50 + i, 0, 2) for i in range(2)] + [record(60 + i) for i in range(5)]


def test_rare_classes_are_on_both_sides_in_their_share():
    records = rare()
    seed = best_seed(records, 0.2)
    held = part_of(records, 0.8, 1.0, seed=seed)
    counts = Counter(x["category_id"] for one in held for x in one["annotations"])
    assert len(held) == 10 and counts[0] == 9 and counts[1] == 1 and counts[2] == 1
    assert best_seed(records, 0.2) == seed and best_seed(records[::-1], 0.2) == seed


def test_the_cost_of_an_absent_class():
    assert imbalance(Counter({0: 2}), Counter(), 0.2) == pytest.approx(ABSENT + 0.4**2 / 0.32)
    assert imbalance(Counter({0: 2}), Counter({0: 2}), 0.2) > ABSENT
    assert imbalance(Counter({0: 1}), Counter(), 0.2) < 1, "a single image can only be on one side"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images(count):
    assert best_seed([record(i, 0) for i in range(count)], 0.2) == 0


def test_crowds_are_not_objects():
    crowd = {"image_id": "x", "annotations": [{"category_id": 5, "iscrowd": 1}]}
    assert best_seed([crowd, record(1, 0), record(2, 0)], 0.2) == best_seed([record("x"), *map(record, "ab")], 0.2) == 0
