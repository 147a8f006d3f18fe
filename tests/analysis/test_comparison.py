"""Two detectors: what differs is named, and a difference is only certain if it is."""

import numpy as np
import pytest
from planted import planted, random_detections

from retina_plugin.analysis.comparison import Difference, compare, verdict

pytestmark = pytest.mark.slow


def degraded(detections, share, seed=1):
    """The same without a share of the detections."""
    kept = np.random.default_rng(seed).random(len(detections.rows)) >= share
    detections.rows = detections.rows[kept]
    return detections


def test_equal_detections_do_not_differ():
    found = compare(random_detections(), random_detections(), samples=200)
    assert all(x.first == x.second and not x.certain for x in found.metrics + found.classes + found.slices)
    assert not found.images and verdict(found).endswith("do not tell which is better")


def test_a_clear_loss_is_certain_and_the_other_way_round_a_gain():
    better, worse = random_detections(num_images=200), degraded(random_detections(num_images=200), 0.3)
    loss, gain = compare(better, worse, samples=200), compare(worse, better, samples=200)
    assert loss.metrics[0].name == "AP" and loss.metrics[0].certain and loss.metrics[0].high < 0
    assert gain.metrics[0].low > 0 and verdict(gain).endswith("so B is better on images of this kind")
    assert gain.metrics[0].low == pytest.approx(-loss.metrics[0].high, abs=1e-6)


def test_the_interval_covers_what_other_images_show():
    """Of two detectors of known quality on many images, 95 % intervals from few images hold the true difference."""
    many = compare(random_detections(seed=99, num_images=2000), degraded(random_detections(99, 2000), 0.1), samples=100)
    true = many.metrics[0].second - many.metrics[0].first
    inside = 0
    for seed in range(20):
        found = compare(random_detections(seed, 80), degraded(random_detections(seed, 80), 0.1, seed), samples=200)
        inside += found.metrics[0].low <= true <= found.metrics[0].high
    assert inside >= 16


def test_images_that_changed_are_listed_from_the_most_improved_on():
    found = compare(planted({"Miss": 2, "Bkg": 1}), planted({"Miss": 2, "Bkg": 1}), samples=100)
    assert not found.images
    fixed = planted({"Miss": 2, "Bkg": 1})
    fixed.rows = fixed.rows[fixed.rows[:, 1] != 150]  # without the invention in the last image
    found = compare(planted({"Miss": 2, "Bkg": 1}), fixed, samples=100)
    assert [(change, one.number) for change, one, _ in found.images] == [(-1, 33)]


def test_other_images_or_classes_are_refused():
    with pytest.raises(ValueError, match="not of the same images and classes"):
        compare(random_detections(num_images=10), random_detections(num_images=11))


def test_an_interval_around_zero_is_not_certain():
    assert not Difference("AP", 1, 2, -0.1, 2).certain and not Difference("AP", 1, 2).certain
    assert Difference("AP", 1, 2, 0.1, 2).certain and Difference("AP", 2, 1, -2, -0.1).certain


def test_classes_and_parts_have_intervals_that_fit_their_difference():
    first = random_detections()
    found = compare(first, first.above(0.6), samples=200)
    for x in [*found.classes, *(x for x in found.slices if x.name.startswith("objects in the image"))]:
        assert x.low <= x.second - x.first <= x.high, x
    assert any(x.certain for x in found.classes), "AP falls without most of the detections"
    same = compare(first, first, samples=100)
    assert all(x.low == x.high == 0 for x in same.classes)
