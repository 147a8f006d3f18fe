"""Which images share a batch."""

import pytest

from retina_plugin.data.batching import best_fitting, padded_pixels


def test_the_oldest_and_those_that_need_least_padding_with_it():
    assert best_fitting([(10, 20), (20, 10), (10, 20), (11, 20)], 3) == [0, 2, 3]
    assert best_fitting([(10, 20), (30, 30)], 5) == [0, 1]


def test_of_equal_images_the_oldest():
    assert best_fitting([(8, 8)] * 5, 3) == [0, 1, 2]


def test_pixels_of_an_image_with_its_padding():
    assert padded_pixels([(10, 20)], 8) == 200
    # of half lying and half standing images, four batches in the pool suffice to keep them apart
    assert padded_pixels([(10, 20), (20, 10)], 2) == pytest.approx(200, rel=0.1)
    # one large image in ten: some batches of four have its size, so that it costs more than its tenth
    sizes = [(10, 10)] * 9 + [(40, 40)]
    assert 0.9 * 100 + 0.1 * 1600 < padded_pixels(sizes, 4) < 1600
    assert padded_pixels(sizes, 4) == padded_pixels(sizes, 4)
