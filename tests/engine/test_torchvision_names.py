"""Names of torchvision's weights become the plugin's."""

import pytest
import torch

from retina_plugin.engine.torchvision_names import from_torchvision, is_detector


@pytest.mark.parametrize(
    "name, want",
    [
        ("conv1.weight", "backbone.bottom_up.stem.conv1.weight"),
        ("layer4.2.bn3.running_var", "backbone.bottom_up.res5.2.conv3.norm.running_var"),
        ("layer2.0.downsample.0.weight", "backbone.bottom_up.res3.0.shortcut.weight"),
        ("layer2.0.downsample.1.bias", "backbone.bottom_up.res3.0.shortcut.norm.bias"),
        ("backbone.body.layer1.0.conv2.weight", "backbone.bottom_up.res2.0.conv2.weight"),
        ("backbone.fpn.extra_blocks.p6.weight", "backbone.top_block.p6.weight"),
        ("head.classification_head.cls_logits.bias", "head.cls_score.bias"),
        ("head.regression_head.bbox_reg.bias", "head.bbox_pred.bias"),
        ("head.regression_head.conv.3.0.weight", "head.bbox_subnet.6.weight"),  # convolution, ReLU: two layers each
        ("head.regression_head.conv.6.weight", "head.bbox_subnet.6.weight"),  # the same before torchvision 0.13
    ],
)
def test_a_name_becomes_that_of_the_plugin(name, want):
    assert list(from_torchvision({name: torch.zeros(1)})) == [want]


def test_levels_follow_from_the_number_of_maps():
    """Of three maps the last has stride 2**5, so the first is level 3; of four it is level 2."""
    for count, first in ((3, 3), (4, 2)):
        state = {f"backbone.fpn.inner_blocks.{i}.0.weight": torch.zeros(1) for i in range(count)}
        assert list(from_torchvision(state)) == [f"backbone.fpn_lateral{first + i}.weight" for i in range(count)]


def test_the_last_layer_of_a_classifier_and_counters_are_left_out():
    names = ["fc.weight", "fc.bias", "bn1.num_batches_tracked", "bn1.bias"]
    assert list(from_torchvision(dict.fromkeys(names, torch.zeros(1)))) == ["backbone.bottom_up.stem.conv1.norm.bias"]


def test_a_detector_is_told_from_a_classifier():
    assert is_detector(["head.classification_head.cls_logits.weight"]) and not is_detector(["conv1.weight"])
