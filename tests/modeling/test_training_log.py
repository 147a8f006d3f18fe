"""Pictures and losses that a training logs."""

import pytest
import torch
from support import make_inputs, tiny_cfg

from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from retina_plugin.modeling.training_log import is_due, training_picture


def test_training_pictures_are_logged_at_their_period():
    """Detectron2's RetinaNet never logs any, whatever VIS_PERIOD is."""
    model = build_model(tiny_cfg("VIS_PERIOD", 2, "MODEL.RETINANET.SCORE_THRESH_TEST", 0.001)).train()
    inputs = make_inputs([(64, 96), (64, 64)], [[[10, 10, 60, 50]], []], [[0], []])
    with EventStorage() as storage:
        found = []
        for storage.iter in range(4):
            model(inputs)
            found.append([(name, image.shape) for name, image, _ in storage._vis_data])
            storage.clear_images()
    name = "left: ground truth, right: predictions"
    assert found == [[(name, (3, 64, 192))], [], [(name, (3, 64, 192))], []]


def test_a_picture_shows_ground_truth_left_and_the_best_predictions_right():
    image = torch.full((3, 40, 60), 255.0)
    boxes = torch.tensor([[5.0, 5.0, 25.0, 30.0]])
    predicted = Instances((40, 60), pred_boxes=Boxes(boxes[:0]), scores=torch.zeros(0))
    picture = training_picture(image, Boxes(boxes), predicted, input_format="BGR")
    assert picture.shape == (3, 40, 120) and picture.dtype == "uint8"
    assert (picture[:, :, :60] != 255).any() and (picture[:, :, 60:] == 255).all()


@pytest.mark.parametrize("period, after, due", [(2, 0, [0, 2]), (2, 1, [1, 3]), (3, 1, [2]), (0, 0, [])])
def test_iterations_at_a_period(period, after, due):
    with EventStorage() as storage:
        found = []
        for storage.iter in range(4):
            found += [storage.iter] if is_due(period, after=after) else []
    assert found == due


def test_nothing_is_due_outside_of_a_training():
    assert not is_due(1)
