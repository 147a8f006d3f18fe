"""Labels that are not classes of the model are refused in training and in validation."""

import pytest
import torch
from support import make_inputs, tiny_cfg

from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from retina_plugin.modeling.labels import LabelCheck, LabelError

BOXES = [[10.0, 12.0, 60.0, 70.0], [40.0, 30.0, 90.0, 62.0]]


def instances(labels):
    return Instances((96, 128), gt_boxes=Boxes(torch.zeros(len(labels), 4)), gt_classes=labels)


@pytest.mark.parametrize("wrong", [3, 4, 100, -1, -2, 2**31])
@pytest.mark.parametrize("assigner", ["max_iou", "atss"])
def test_training_names_image_label_and_number_of_classes(wrong, assigner):
    model = build_model(tiny_cfg("MODEL.RETINANET.ASSIGNER", assigner)).train()
    inputs = make_inputs([(96, 128)] * 2, [[BOXES[0]], BOXES], [[0], [2, wrong]])
    inputs[1]["file_name"] = "photos/7.jpg"
    message = rf"image 1 of the batch \(photos/7.jpg\) has gt_classes {wrong}, but MODEL.RETINANET.NUM_CLASSES is 3"
    with pytest.raises(ValueError, match=message) as error:
        model(inputs)
    assert "0..2" in str(error.value)
    assert model.loss_normalizer == 100, "the normaliser is unchanged"


def test_all_wrong_labels_of_an_image_are_listed():
    with pytest.raises(LabelError) as error:
        LabelCheck([instances(torch.tensor([0, 9, 1, 5, 9, -3]))], 3)
    assert (error.value.image, error.value.wrong, error.value.num_classes) == (0, [-3, 5, 9], 3)


@pytest.mark.parametrize("values", [[0, 2], [], [1], [2]])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_classes_of_the_model_are_accepted(values, dtype):
    labels = torch.tensor(values, dtype=dtype)
    LabelCheck([instances(labels), instances(labels)], 3).finish()


@pytest.mark.parametrize("labels", [torch.tensor([1.0, 1.5]), torch.tensor([float("nan")]), torch.tensor([True])])
def test_labels_that_are_not_integers_are_refused(labels):
    with pytest.raises(ValueError, match="image 0 of the batch has gt_classes of type torch.*must be integers"):
        LabelCheck([instances(labels)], 3)


def test_the_validation_loss_refuses_wrong_labels():
    from retina_plugin.engine.validation_loss import validation_losses

    model = build_model(tiny_cfg()).train()
    with pytest.raises(LabelError, match="gt_classes 3,"):
        validation_losses(model, [make_inputs([(64, 96)], [[BOXES[0]]], [[3]])])
    assert model.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_labels_on_a_gpu_are_refused_after_a_synchronisation():
    check = LabelCheck([instances(torch.tensor([0, 7], device="cuda"))], 3)
    torch.cuda.synchronize()
    with pytest.raises(LabelError, match="gt_classes 7,"):
        check.finish()
