"""Labels cover no small box and no other label, and stay inside the picture."""

import numpy as np
import pytest

from retina_plugin.report.labels import (
    MOST_CHARACTERS,
    MOST_COVERED,
    MOST_OF_ITS_OWN,
    SMALL_SIDE,
    one_line,
    place_labels,
)

WIDTH, HEIGHT, LABEL = 400, 300, (40, 14)


def random_boxes(count, low, high, seed=0):
    rng = np.random.default_rng(seed)
    sides = rng.uniform(low, high, (count, 2))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    return np.concatenate([corners, corners + sides], axis=1)


def placed(boxes, size=LABEL, **options):
    """Return the places (n, 4) XYXY of the labels that have one, and the indices of their boxes."""
    sizes = np.array([size] * len(boxes)).reshape(-1, 2)
    places = place_labels(boxes, sizes, width=WIDTH, height=HEIGHT, **options)
    own = [i for i, place in enumerate(places) if place]
    corners = np.array([places[i] for i in own], dtype=float).reshape(-1, 2)
    return np.concatenate([corners, corners + size], axis=1), own


def shared(a, b):
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    return np.clip(sides, 0, None).prod(axis=2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("count", "low", "high"), [(40, 3, 25), (200, 3, 25), (60, 4, 120), (12, 60, 200), (1, 5, 6)])
def test_labels_cover_no_small_box_little_of_a_large_one_and_no_label(count, low, high, seed):
    boxes = random_boxes(count, low, high, seed)
    labels, own = placed(boxes)
    sides = boxes[:, 2:] - boxes[:, :2]
    small = sides.min(axis=1) < SMALL_SIDE
    covered = shared(labels, boxes)
    assert covered[:, small].sum() == 0, "not even its own"
    shares = covered / sides.prod(axis=1)
    shares[np.arange(len(own)), own] *= MOST_COVERED / MOST_OF_ITS_OWN
    assert (shares <= MOST_COVERED + 1e-9).all()
    assert np.triu(shared(labels, labels), 1).sum() == 0
    assert (labels[:, :2] >= 0).all() and (labels[:, 2:] <= [WIDTH, HEIGHT]).all()
    assert len(labels) >= (1 if count <= 40 else 0)


@pytest.mark.parametrize("corner", [(0, 0), (WIDTH - 20, 0), (0, HEIGHT - 20), (WIDTH - 20, HEIGHT - 20)])
def test_small_box_in_a_corner_has_its_label_inside_the_picture(corner):
    box = np.array([[*corner, corner[0] + 20, corner[1] + 20]], dtype=float)
    labels, own = placed(box)
    assert own == [0] and shared(labels, box).sum() == 0
    assert (labels[0, :2] <= box[0, 2:]).all() and (labels[0, 2:] >= box[0, :2]).all(), "it touches its box"


def test_box_as_large_as_the_picture_has_its_label_inside():
    labels, own = placed(np.array([[0.0, 0, WIDTH, HEIGHT]]))
    assert own == [0] and labels[0].tolist() == [0, 0, *LABEL]


def test_label_larger_than_the_picture_and_no_boxes():
    assert placed(np.array([[5.0, 5, 20, 20]]), size=(WIDTH + 1, 14))[1] == []
    assert place_labels(np.zeros((0, 4)), np.zeros((0, 2)), width=9, height=9) == []


def test_first_in_the_order_gets_the_best_place_and_taken_places_stay_free():
    box = [100.0, 100, 160, 160]
    sizes = np.array([LABEL] * 2)
    above = (100, 100 - LABEL[1])
    assert place_labels(np.array([box, box]), sizes, width=WIDTH, height=HEIGHT)[0] == above
    assert place_labels(np.array([box, box]), sizes, width=WIDTH, height=HEIGHT, order=np.array([1, 0]))[1] == above
    first, _ = placed(np.array([box]))
    again, _ = placed(np.array([box]), taken=first)
    assert len(again) == 1 and shared(first, again).sum() == 0


@pytest.mark.parametrize("name", ["a\nb", "a\tb\x00", "x" * 300 + " 0.93", "", "  ", "\u4e2d\u6587", "<b>$x$|"])
def test_label_is_one_short_line(name):
    line = one_line(name)
    assert len(line) <= MOST_CHARACTERS and line.isprintable() and line == line.strip()
    assert not name.endswith("0.93") or line.endswith("0.93"), "the score is kept"
