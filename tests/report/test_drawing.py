"""Boxes on images, and sheets of them."""

import numpy as np

from retina_plugin.report.drawing import PALETTE, draw_boxes, sheet


def test_boxes_are_drawn_where_they_are_at_the_scale():
    canvas = draw_boxes(np.zeros((60, 80, 3), np.uint8), np.array([[10, 20, 30, 35]]), ["a"], [12], scale=2.0)
    assert canvas.shape == (120, 160, 3)
    assert canvas[69, 40].tolist() == PALETTE[2].tolist(), "lower edge, and colours are counted round"


def test_a_sheet_has_a_cell_for_every_image():
    out = sheet([np.zeros((10, 20, 3), np.uint8), np.zeros((30, 10, 3), np.uint8), np.zeros((5, 5, 3), np.uint8)], columns=2, gap=2)
    assert out.shape == (2 * 32, 2 * 22, 3)
    assert (out[2:12, 2:22] == 0).all() and (out[12:32, 2:22] == 255).all() and (out[32:, 22:] == 255).all()
