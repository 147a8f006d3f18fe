"""Symmetry of objects: shapes with a known answer."""

import numpy as np
import pytest

from retina_plugin.plan.symmetry import LEAST_OBJECTS, LEAST_SIDE, patch_of, symmetries

SHAPES = {
    "T": ["#########", "#########", "...###...", "...###...", "...###...", "...###...", "...###..."],
    "E": ["#########", "###......", "#######..", "###......", "#########"],
    "+": ["...###...", "...###...", "#########", "...###...", "...###..."],
    "F": ["#########", "#########", "###......", "#######..", "###......", "###......", "###......"],
}
"""Shapes of which the first has a left-right symmetry, the second one of top and bottom, the third both."""


def pictures_of(shape, count=60, *, seed=0, flip=None):
    """Return patches of a shape in random greys, dark on light or light on dark."""
    rng = np.random.default_rng(seed)
    mask = np.array([[cell == "#" for cell in row] for row in SHAPES[shape]]).repeat(6, axis=0).repeat(6, axis=1)
    mask = np.pad(mask, 4)
    patches = []
    for _ in range(count):
        ink, paper = rng.uniform(0, 100), rng.uniform(150, 255)
        image = np.where(mask if rng.random() < 0.5 else ~mask, ink, paper)
        image = (image + rng.normal(0, 5, image.shape)).astype(np.float32)
        image = flip(image) if flip and rng.random() < 0.5 else image
        patches.append(patch_of(image, (0, 0, *image.shape[::-1])))
    return patches


@pytest.mark.parametrize(
    ("shape", "mirrored", "upside_down"),
    [("T", False, True), ("E", True, False), ("+", False, False), ("F", True, True)],
)
def test_shapes(shape, mirrored, upside_down):
    found = symmetries({0: pictures_of(shape)})
    for name, differs in (("mirrored", mirrored), ("upside_down", upside_down)):
        asymmetry, p, objects, _ = found[name]
        assert (asymmetry > 0.1) is differs, (name, asymmetry)
        assert p < 0.01 or not differs
        assert objects == 60


def test_an_object_that_occurs_both_ways_looks_the_same():
    # A car seen from the left differs from one seen from the right; if both occur, mirroring shows nothing impossible.
    found = symmetries({0: pictures_of("F", 400, flip=lambda x: x[:, ::-1])})
    assert found["mirrored"].asymmetry < 0.02 and found["mirrored"].p > 0.01
    assert found["upside_down"].asymmetry > 0.1


def test_the_p_value_of_objects_without_a_preference_is_uniform():
    values = [symmetries({0: pictures_of("F", 30, seed=i, flip=lambda x: x[:, ::-1])})["mirrored"].p for i in range(60)]
    # 60 values, each below 0.2 with probability 0.2: 12 are expected, with a standard deviation of 3.1
    assert 3 <= sum(p < 0.2 for p in values) <= 21


def test_few_objects_of_many_classes_count_together():
    classes = {i: pictures_of("F", 3, seed=i) for i in range(8)}
    assert symmetries(classes)["mirrored"].p < 0.01
    assert symmetries({0: classes[0][:1]}) == {} and symmetries({}) == {}


def test_there_is_nothing_to_see_in_a_tiny_or_uniform_box():
    image = np.random.default_rng(0).uniform(0, 255, (50, 50)).astype(np.float32)
    assert patch_of(image, (0, 0, LEAST_SIDE - 1, 40)) is None
    assert patch_of(np.full((50, 50), 7, np.float32), (0, 0, 40, 40)) is None
    assert patch_of(image, (60, 60, 80, 80)) is None, "outside of the image"
    assert patch_of(image, (-5, 10.4, 30, 80)).shape == (16, 16)


def test_brightness_and_the_sign_of_the_contrast_do_not_matter():
    image = np.random.default_rng(0).uniform(100, 200, (40, 40)).astype(np.float32)
    first, other = (patch_of(x, (0, 0, 40, 40)) for x in (image, 255 - image * 0.5))
    np.testing.assert_allclose(first, other, atol=1e-4)


def test_a_one_sided_class_among_symmetrical_ones_is_seen():
    classes = {i: pictures_of("+", 60, seed=i) for i in range(4)} | {9: pictures_of("F", 40)}
    found = symmetries(classes)["mirrored"]
    assert found.asymmetry < 0.1 < found.worst
    assert symmetries({i: classes[i] for i in range(4)})["mirrored"].worst == 0
    few = symmetries(classes | {9: classes[9][: LEAST_OBJECTS - 1]})["mirrored"]
    assert few.worst == 0, "a table full of knives that point in one direction"
