"""Which images share a batch."""

import numpy as np

from retina_plugin.data.batching import best_fitting


def pool(*sizes):
    return [{"image": np.zeros((3, *size))} for size in sizes]


def test_the_oldest_and_those_that_need_least_padding_with_it():
    assert best_fitting(pool((10, 20), (20, 10), (10, 20), (11, 20)), 3) == [0, 2, 3]
    assert best_fitting(pool((10, 20), (30, 30)), 5) == [0, 1]


def test_of_equal_images_the_oldest():
    assert best_fitting(pool(*[(8, 8)] * 5), 3) == [0, 1, 2]
