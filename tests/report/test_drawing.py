"""Boxes on images, and sheets of them."""

import cv2
import numpy as np
import pytest

from retina_plugin.report.drawing import (
    CROWD,
    LEAST_SIDE,
    MOST_WIDTH,
    PALETTE,
    captioned,
    draw_boxes,
    fitting_scale,
    flow,
    legend,
    sheet,
)


def coloured(canvas, k):
    return (canvas == PALETTE[k % len(PALETTE)]).all(axis=-1)


def test_boxes_are_drawn_at_their_scaled_position():
    image, box = np.zeros((60, 80, 3), np.uint8), np.array([[10, 20, 30, 35]])
    canvas = draw_boxes(image, box, ["a"], [len(PALETTE) + 2], scale=2.0)
    assert canvas.shape == (120, 160, 3)
    assert coloured(canvas, 2)[69, 40], "the lower edge; colours repeat"


@pytest.mark.parametrize(
    "box", [[20, 20, 21, 21], [0, 0, 1, 1], [59, 39, 60, 40], [0, 0, 0.2, 0.2], [30, 10, 30.4, 30], [-9, -9, -3, -3]]
)
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_box_of_one_pixel_is_visible_and_inside_the_picture(box, scale):
    found = coloured(draw_boxes(np.zeros((40, 60, 3), np.uint8), np.array([box]), [""], [0], scale=scale), 0)
    rows, columns = np.nonzero(found)
    assert np.ptp(rows) >= LEAST_SIDE - 1 and np.ptp(columns) >= LEAST_SIDE - 1


def test_labels_do_not_cover_small_boxes():
    rng = np.random.default_rng(0)
    corners = np.stack([rng.permutation(36) % 6 * 60 + 10, rng.permutation(36) // 6 * 50 + 10], axis=1)
    boxes = np.concatenate([corners, corners + 12], axis=1).astype(float)
    image, ones = np.zeros((320, 400, 3), np.uint8), [1] * len(boxes)
    with_labels = draw_boxes(image, boxes, ["a long name 0.93"] * len(boxes), ones)
    without = draw_boxes(image, boxes, [""] * len(boxes), ones)
    assert (with_labels != without).any(), "there are labels"
    for x1, y1, x2, y2 in boxes.astype(int):
        assert (with_labels[y1:y2, x1:x2] == without[y1:y2, x1:x2]).all()


@pytest.mark.parametrize("k", range(len(PALETTE)))
def test_every_colour_is_visible_on_itself_and_on_black_and_white(k):
    for background in (PALETTE[k], (0, 0, 0), (255, 255, 255)):
        image = np.full((80, 80, 3), background, np.uint8)
        row = draw_boxes(image, np.array([[10.0, 10, 60, 60]]), [""], [k])[30].astype(int)
        luma = row @ [0.114, 0.587, 0.299]
        assert np.ptp(luma[5:15]) > 60, "the line, or the one around it"


def test_small_box_is_drawn_over_a_large_one():
    boxes = np.array([[20.0, 20, 24, 24], [10, 22, 60, 60]])
    assert coloured(draw_boxes(np.zeros((80, 80, 3), np.uint8), boxes, ["", ""], [0, 1]), 0)[22:24, 20:24].any()


def test_in_a_crowd_only_rare_classes_have_labels():
    corners = np.array([[x * 45 + 5, y * 45 + 20] for y in range(7) for x in range(8)], dtype=float)
    boxes = np.concatenate([corners, corners + 30], axis=1)
    classes = [0] * (len(boxes) - 1) + [1]
    assert len(boxes) > CROWD
    drawn = [
        draw_boxes(np.zeros((340, 380, 3), np.uint8), boxes, names, classes)
        for names in (["common"] * 55 + [""], ["common"] * 55 + ["rare"], [""] * 56)
    ]
    assert (drawn[0] == drawn[2]).all() and (drawn[1] != drawn[2]).any()


@pytest.mark.parametrize("size", [(4000, 5), (5, 4000), (1, 1), (3, 2000), (1035, 1249)])
def test_picture_of_any_image_is_at_most_as_large_as_a_page(size):
    boxes = np.array([[0, 0, size[1], 1.0]])
    scale = fitting_scale(size, boxes, width=330)
    height, width = draw_boxes(np.zeros((*size, 3), np.uint8), boxes, ["name"], [0], scale=scale).shape[:2]
    assert 1 <= height <= MOST_WIDTH and 1 <= width <= MOST_WIDTH


def test_dashes_leave_gaps():
    image, boxes = np.zeros((80, 80, 3), np.uint8), np.array([[10.0, 10, 60, 60]])
    solid, dashed = (coloured(draw_boxes(image, boxes, [""], [0], dashed=classes), 0) for classes in ([], [0]))
    assert solid[10, 10:60].all() and 0.4 < dashed[10, 12:58].mean() < 0.8 and 0.4 < dashed[12:58, 10].mean() < 0.8


@pytest.mark.parametrize(
    "name", ["$x_1$", "<b>", "a|b", "new\nline", "long " * 99, "\U0001f600", "\u4e2d\u6587", "\x00", "\udcff"]
)
def test_any_name_can_be_a_label_and_a_legend_entry(name):
    canvas = draw_boxes(np.zeros((90, 200, 3), np.uint8), np.array([[30.0, 40, 60, 80]]), [name], [0])
    assert coloured(canvas, 0)[50:70, 30].all(), "the left edge of the box"
    strip = legend([(name, PALETTE[0])] * 3, 200)
    assert coloured(strip, 0).sum() == 3 * 144 and strip.shape[1] == 200, "three squares of 12 x 12"


def test_first_seven_colours_differ_for_red_green_colour_blindness():
    seen = []
    for rgb in PALETTE[:7, ::-1] / 255.0:
        red, green, blue = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        seen.append((0.2126 * red + 0.7152 * green, blue))  # what remains if red and green look the same
    distances = [np.hypot(*(np.subtract(a, b))) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 0.05


def test_legend_takes_as_many_lines_as_it_needs():
    strip = legend([(f"class {k}", PALETTE[k]) for k in range(9)], 200)
    assert strip.shape[1] == 200 and strip.shape[0] > 44
    assert all(coloured(strip, k).sum() == 144 for k in range(9)), "squares of 12 x 12, none cut off"
    assert legend([], 50).shape == (22, 50, 3)


def test_sheet_rows_are_as_high_as_their_highest_image():
    images = [np.zeros((height, width, 3), np.uint8) for height, width in ((10, 20), (30, 10), (5, 5))]
    out = sheet(images, columns=2, gap=2)
    assert out.shape == (32 + 7, 2 * 22, 3)
    assert (out[2:12, 2:22] == 0).all() and (out[34:39, 2:7] == 0).all(), "the first and the third image"
    assert (out[12:32, 2:22] == 255).all() and (out[32:, 22:] == 255).all(), "white below the first; an empty cell"


def test_flow_fills_its_rows():
    images = [np.zeros((10, side, 3), np.uint8) for side in (40, 40, 40, 300, 20)]
    out = flow(images, width=100, gap=2)
    assert out.shape == (4 * 12, 302, 3), "rows of 40 + 40, 40, 300 and 20"


def test_caption_is_below_the_image():
    out = captioned(np.zeros((30, 90, 3), np.uint8), "3 of 9")
    assert out.shape == (50, 90, 3) and (out[30:] < 200).any() and cv2.countNonZero(out[:30, :, 0]) == 0
