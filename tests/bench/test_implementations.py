"""The compared implementations are the same detector."""

import pytest
import torch

from detectron2.modeling import build_model

from retina_plugin.bench.implementations import (
    detectron2_cfg,
    plugin_cfg,
    random_inputs,
    torchvision_inputs,
    torchvision_retinanet,
)


@pytest.mark.slow
def test_numbers_of_trained_parameters_are_equal():
    theirs, ours = build_model(detectron2_cfg(num_classes=7)), build_model(plugin_cfg(num_classes=7))
    tv = torchvision_retinanet(size=64, num_classes=7)

    def trained(model):
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    assert trained(ours) == trained(theirs)
    # torchvision computes P6 from P5, so that convolution has 256 instead of 2048 input channels.
    assert trained(theirs) - trained(tv) == 256 * (2048 - 256) * 9


def test_random_boxes_are_inside_their_image_and_equal_for_torchvision():
    inputs = random_inputs((96, 128), batch=2, num_boxes=50, num_classes=3)
    boxes = inputs[0]["instances"].gt_boxes.tensor
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 128 and boxes[:, 3].max() <= 96
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert not torch.equal(inputs[0]["image"], inputs[1]["image"])
    images, targets = torchvision_inputs(inputs)
    assert torch.equal(images[0], inputs[0]["image"][[2, 1, 0]].float() / 255)
    assert torch.equal(targets[0]["boxes"], boxes)
