"""Choice of images to label: uncertainty by hand, near copies only once, any number."""

import numpy as np
import pytest

from retina_plugin.analysis.selection import choose_images, image_uncertainty


def test_a_detection_at_its_threshold_has_one_bit_whatever_the_threshold():
    for threshold in (0.1, 0.5, 0.9):
        assert image_uncertainty(np.array([threshold]), np.array([0]), [threshold]) == pytest.approx(1, abs=1e-4)


def test_uncertainty_by_hand():
    # Threshold 0.5: probabilities are the scores. H(0.25) = 0.25 * 2 + 0.75 * log2(4 / 3) = 0.8113.
    assert image_uncertainty(np.array([0.25, 0.5]), np.array([0, 0]), [0.5]) == pytest.approx(1.8113, abs=1e-4)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_thresholds_at_the_limits(threshold):
    assert np.isfinite(image_uncertainty(np.array([0.0, 0.5, 1.0]), np.array([0, 0, 0]), [threshold]))


def test_copies_of_an_unsure_image_are_chosen_after_the_others():
    features = np.array([[1.0, 0, 0], [1, 0.001, 0], [1, 0, 0.001], [0, 1, 0], [0, 0, 1]])
    chosen = choose_images(np.array([5.0, 4.9, 4.8, 1, 0.5]), features, 3)
    assert chosen[0] == 0 and set(chosen) == {0, 3, 4}


def test_alike_images_are_chosen_by_uncertainty():
    assert choose_images(np.array([1.0, 3.0, 2.0]), np.ones((3, 4)), 2) == [1, 2]


@pytest.mark.parametrize("budget", [1, 5, 50])
def test_every_image_is_chosen_at_most_once(budget):
    rng = np.random.default_rng(0)
    chosen = choose_images(rng.uniform(0, 3, 20) * (rng.random(20) > 0.5), rng.normal(size=(20, 8)), budget)
    assert len(chosen) == len(set(chosen)) == min(budget, 20)
