"""Shapes and attributes of VIA; whole files are tested in test_via.py."""

import pytest

from retina_plugin.data.formats.via_regions import box_of_ellipse, box_of_shape, class_attribute


def test_shapes_become_boxes():
    assert box_of_shape({"name": "rect", "x": 4, "y": 5, "width": 20, "height": 10}) == [4, 5, 24, 15]
    assert box_of_shape({"name": "circle", "cx": 10, "cy": 10, "r": 3}) == [7, 7, 13, 13]
    assert box_of_shape({"name": "polygon", "all_points_x": [1, 5, 3], "all_points_y": [2, 2, 8]}) == [1, 2, 5, 8]
    assert "point" in box_of_shape({"name": "point", "cx": 1, "cy": 1})


@pytest.mark.parametrize(("angle", "box"), [(0.0, [0, 5, 20, 15]), (1.5707963267948966, [5, 0, 15, 20])])
def test_a_rotated_ellipse(angle, box):
    assert box_of_ellipse(10, 10, 10, 5, angle) == pytest.approx(box)


def test_the_attribute_that_holds_the_class():
    assert class_attribute([{"species": "cat"}]) == "species"
