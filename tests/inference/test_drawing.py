"""Pictures: boxes where they belong, and nothing falls over at the border."""

import cv2
import numpy as np
import pytest
import torch
from conftest import tiny_cfg

from detectron2.structures import Boxes, Instances

from retina_plugin.data.image_files import ImageError
from retina_plugin.inference.drawing import GAP, TITLE_HEIGHT, draw_comparison
from retina_plugin.report.drawing import PALETTE, draw_boxes


def test_a_box_is_drawn_in_the_colour_of_its_class_and_the_image_is_left_alone():
    image = np.zeros((40, 60, 3), np.uint8)
    canvas = draw_boxes(image, np.array([[10, 20, 30, 35]]), [""], [2], scale=2.0)
    assert canvas.shape == (80, 120, 3) and image.max() == 0
    assert canvas[69, 40].tolist() == PALETTE[2].tolist()  # lower edge, y = 35 · 2
    assert canvas[55, 40].max() == 0  # inside


@pytest.mark.parametrize("box", [[0, 0, 60, 40], [50, 0, 60, 5], [-5, -5, 3, 3], [0, 38, 60, 40]])
def test_labels_stay_inside_the_picture(box):
    assert draw_boxes(np.zeros((40, 60, 3), np.uint8), np.array([box]), ["a long label"], [0]).shape == (40, 60, 3)


class Predictor:
    cfg = tiny_cfg()
    metadata = type("M", (), {"thing_classes": ["cat", "dog"]})

    def __call__(self, image):
        size = image.shape[:2]
        found = Instances(
            size,
            pred_boxes=Boxes(torch.tensor([[5.0, 5, 20, 20], [1, 1, 3, 3]])),
            scores=torch.tensor([0.9, 0.2]),
            pred_classes=torch.tensor([1, 0]),
        )
        return {"instances": found}


def test_a_sheet_of_pairs(tmp_path):
    records = []
    for i, size in enumerate([(40, 60), (80, 60), (40, 60)]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((*size, 3), np.uint8))
        records.append(
            {
                "file_name": str(tmp_path / f"{i}.png"),
                "annotations": [{"bbox": [2, 2, 20, 20], "category_id": 0}] * (i > 0),
            }
        )
    sheet = draw_comparison(Predictor(), records, columns=2, width=120)
    # Three pairs in two columns: a row of the tallest height, 160, one of 80; the title above, a line of legend below.
    assert sheet.shape[:2] == (TITLE_HEIGHT + (160 + GAP) + (80 + GAP) + 22, 2 * (2 * 120 + 2 * GAP))
    assert (sheet[-22:] != 255).any(), "the legend names the classes"


def test_a_record_alone_has_no_empty_column(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((40, 60, 3), np.uint8))
    sheet = draw_comparison(
        Predictor(), [{"file_name": str(tmp_path / "0.png"), "annotations": []}], columns=2, width=120
    )
    assert sheet.shape[1] == 2 * 120 + 2 * GAP


def test_ground_truth_and_predictions_have_the_same_scale_where_boxes_are_small(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((100, 100, 3), np.uint8))
    sheet = draw_comparison(
        Predictor(),
        [{"file_name": str(tmp_path / "0.png"), "annotations": [{"bbox": [2, 2, 7, 7], "category_id": 0}]}],
        width=120,
    )
    assert sheet.shape[1] == 2 * 400 + 2 * GAP, "5 px become 20: four times the image"


def test_no_images_and_unreadable_images_are_said(tmp_path):
    with pytest.raises(ValueError, match="no images"):
        draw_comparison(Predictor(), [])
    with pytest.raises(ImageError, match="gone.png does not exist"):
        draw_comparison(Predictor(), [{"file_name": "gone.png", "annotations": []}])
