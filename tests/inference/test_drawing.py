"""Pictures of predictions and ground truth: boxes at their place, labels inside the picture."""

import cv2
import numpy as np
import pytest
import torch
from support import tiny_cfg

from detectron2.structures import Boxes, Instances

from retina_plugin.data.image_files import ImageError
from retina_plugin.inference.drawing import GAP, TITLE_HEIGHT, draw_comparison
from retina_plugin.report.drawing import FONT, PALETTE, TEXT_SIZES, draw_boxes


def is_colour(picture, k):
    """Return where (H, W) a picture (H, W, 3) has the colour of class k."""
    return (picture == PALETTE[k]).all(axis=-1)


def test_box_has_the_colour_of_its_class_and_the_image_is_unchanged():
    image = np.zeros((40, 60, 3), np.uint8)
    canvas = draw_boxes(image, np.array([[10, 20, 30, 35]]), [""], [2], scale=2.0)
    assert canvas.shape == (80, 120, 3) and image.max() == 0
    assert canvas[69, 40].tolist() == PALETTE[2].tolist()  # lower edge, y = 35 · 2
    assert canvas[55, 40].max() == 0  # inside


@pytest.mark.parametrize("box", [[0, 0, 160, 60], [150, 0, 160, 5], [-5, -5, 3, 3], [0, 58, 160, 60]])
def test_label_at_the_border_is_not_cut_off(box):
    image = np.zeros((60, 160, 3), np.uint8)
    label, outline = (draw_boxes(image, np.array([box]), [text], [0]) for text in ("a long label", ""))
    rows, columns = np.nonzero((label != outline).any(axis=-1))
    (width, height), _ = cv2.getTextSize("a long label", FONT, TEXT_SIZES[0], 1)
    # A margin of 3 pixels on each side; at most 2 pixels of it cover the outline of the box, which has the same colour.
    assert width + 6 >= np.ptp(columns) + 1 >= width + 4 and height + 6 >= np.ptp(rows) + 1 >= height + 4


class Predictor:
    cfg = tiny_cfg()
    metadata = type("M", (), {"thing_classes": ["cat", "dog"]})

    def __call__(self, image):
        size = image.shape[:2]
        boxes = Boxes(torch.tensor([[5.0, 5, 20, 20], [1, 1, 3, 3]]))
        found = Instances(size, pred_boxes=boxes, scores=torch.tensor([0.9, 0.2]), pred_classes=torch.tensor([1, 0]))
        return {"instances": found}


def record(file, size, boxes):
    """Return the record of a black image with boxes of class 0."""
    cv2.imwrite(str(file), np.zeros((*size, 3), np.uint8))
    return {"file_name": str(file), "annotations": [{"bbox": box, "category_id": 0} for box in boxes]}


def test_sheet_of_pairs(tmp_path):
    sizes = [(40, 60), (80, 60), (40, 60)]
    records = [record(tmp_path / f"{i}.png", size, [[2, 2, 20, 20]] * (i > 0)) for i, size in enumerate(sizes)]
    sheet = draw_comparison(Predictor(), records, columns=2, width=120)
    # Three pairs in two columns: a row of the tallest height, 160, and one of 80; title above, a line of legend below.
    assert sheet.shape[:2] == (TITLE_HEIGHT + (160 + GAP) + (80 + GAP) + 22, 2 * (2 * 120 + 2 * GAP))
    # At scale 2 the second pair has a true box of class 0 with its left edge at 4, a prediction of class 1 at 10.
    left = 2 * 120 + 2 * GAP + GAP
    rows = slice(TITLE_HEIGHT + GAP + 20, TITLE_HEIGHT + GAP + 36)
    assert is_colour(sheet, 0)[rows, left + 4].all() and is_colour(sheet, 1)[rows, left + 120 + GAP + 10].all()
    assert [is_colour(sheet[-22:], k).sum() for k in (0, 1, 2)] == [144, 144, 0], "squares of the classes in the legend"


def test_single_record_has_no_empty_column(tmp_path):
    sheet = draw_comparison(Predictor(), [record(tmp_path / "0.png", (40, 60), [])], columns=2, width=120)
    assert sheet.shape[1] == 2 * 120 + 2 * GAP


def test_ground_truth_and_predictions_have_the_same_scale_if_boxes_are_small(tmp_path):
    sheet = draw_comparison(Predictor(), [record(tmp_path / "0.png", (100, 100), [[2, 2, 7, 7]])], width=120)
    assert sheet.shape[1] == 2 * 400 + 2 * GAP, "5 px become 20: four times the image"


def test_no_images_and_unreadable_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no images"):
        draw_comparison(Predictor(), [])
    with pytest.raises(ImageError, match="gone.png does not exist"):
        draw_comparison(Predictor(), [{"file_name": "gone.png", "annotations": []}])
