"""What is settled, and what later rules see of it."""

import pytest
from drafts import draft

from retina_plugin.plan.draft import Choice


def test_what_is_settled_counts_for_later_rules():
    some = draft()
    some.apply(Choice("input size", {"INPUT.MIN_SIZE_TRAIN": [144, 160, 176], "INPUT.MAX_SIZE_TRAIN": 999}, "because"))
    assert some.input_size == (160, 213) and some.zoom == pytest.approx(1 / 3)
    assert some.test_pixels == pytest.approx(320 * 427 / (160 * 213))
    some.apply(
        Choice("tiles", {"TEST.TILES.SIZE": 200, "TEST.TILES.OVERLAP": 0.5, "TEST.TILES.WHOLE": True}, "because")
    )
    # 480 px are covered by tiles at 0, 100, 200, 280: 1 + ceil(280 / 100) = 4; 640 px by 1 + ceil(440 / 100) = 6
    assert some.input_size == (160, 160) and some.zoom == 0.8 and some.views == 4 * 6 + 1


def test_size_0_is_the_size_of_the_image():
    some = draft(keys={"INPUT.MIN_SIZE_TRAIN": [0]})
    assert some.input_size == (480, 640) and some.zoom == 1
    tiled = draft(keys={"INPUT.MIN_SIZE_TRAIN": [0], "TEST.TILES.SIZE": 100})
    assert tiled.input_size == (100, 100) and tiled.zoom == 1
