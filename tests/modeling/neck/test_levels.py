"""Features and counts that follow from the levels, and levels that are refused."""

import pytest
from support import tiny_cfg

from retina_plugin.modeling.neck.levels import PyramidLevels


@pytest.mark.parametrize(
    "levels, bottom_up, top",
    [
        ((3, 4, 5, 6, 7), ["res3", "res4", "res5"], 2),
        ((2, 3, 4, 5), ["res2", "res3", "res4", "res5"], 0),
        ((4, 5, 6, 7, 8), ["res4", "res5"], 3),
        ((3, 4), ["res3", "res4"], 0),
    ],
)
def test_features_and_top_levels_follow_from_the_levels(levels, bottom_up, top):
    pyramid = PyramidLevels(levels)
    assert pyramid.features == [f"p{level}" for level in levels]
    assert pyramid.bottom_up_features == bottom_up and pyramid.num_top_levels == top


@pytest.mark.parametrize("levels", [(), (3, 5), (5, 4, 3), (1, 2, 3), (6, 7), (3, 4, 5, 6, 7, 8, 9, 10)])
def test_invalid_levels_are_refused(levels):
    with pytest.raises(ValueError, match="MODEL.RETINANET.LEVELS"):
        PyramidLevels(levels)


def test_a_key_that_contradicts_the_levels_is_named():
    named = r"RETINANET.IN_FEATURES is \['p3', 'p4'\].*FPN.IN_FEATURES is \['res2', 'res3'\]"
    with pytest.raises(ValueError, match=named):
        tiny_cfg("MODEL.FPN.IN_FEATURES", ["res2", "res3"], "MODEL.RETINANET.IN_FEATURES", ["p3", "p4"])


def test_a_key_that_agrees_is_accepted():
    pyramid = PyramidLevels.from_config(tiny_cfg("MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"]))
    assert pyramid.levels == (3, 4, 5, 6, 7)
