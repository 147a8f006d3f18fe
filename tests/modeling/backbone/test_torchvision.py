"""torchvision's classifiers as backbones."""

import pytest
import torch
import torchvision
from support import tiny_cfg

from detectron2.modeling import build_backbone, build_model

from retina_plugin.modeling.backbone.torchvision import TorchvisionBackbone

FEATURES = ["res3", "res4", "res5"]
NAMES = [
    "vgg16_bn",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "convnext_tiny",
    "swin_t",
    "shufflenet_v2_x0_5",
    "regnet_y_400mf",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_channels_and_strides_are_read_from_the_network(name):
    model = TorchvisionBackbone(name=name, out_features=FEATURES).train()
    outputs = model(torch.randn(2, 3, 64, 96))
    for feature, stride in zip(FEATURES, (8, 16, 32), strict=True):
        shape = model.output_shape()[feature]
        assert shape.stride == stride
        assert outputs[feature].shape == (2, shape.channels, 64 // stride, 96 // stride)
    sum(x.float().mean() for x in outputs.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == [], "modules after the last map are removed"


def test_the_maps_equal_those_of_the_classifier():
    theirs = torchvision.models.resnet18(weights=None).eval()
    model = TorchvisionBackbone(name="resnet18", out_features=["res2", "res5"]).eval()
    model.net.load_state_dict(theirs.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        stem = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x)))))
        got = model(x)
        torch.testing.assert_close(got["res2"], stem)
        torch.testing.assert_close(got["res5"], theirs.layer4(theirs.layer3(theirs.layer2(stem))))


def test_a_detector_can_be_built_on_it():
    network = ["MODEL.BOTTOM_UP.NAME", "build_retina_torchvision", "MODEL.TORCHVISION.NAME", "mobilenet_v3_small"]
    model = build_model(tiny_cfg(*network, "MODEL.RETINANET.LEVELS", [2, 3, 4, 5, 6])).eval()
    assert set(model.backbone(torch.randn(1, 3, 64, 64))) == {"p2", "p3", "p4", "p5", "p6"}


@pytest.mark.parametrize(
    "name, message",
    [
        ("resnet5000", "does not have"),
        ("fasterrcnn_resnet50_fpn", "does not have"),
        ("inception_v3", r"not at \[8, 16, 32\]"),
        ("vit_b_16", "of any size"),
        ("maxvit_t", "of any size"),
        ("alexnet", "not at"),
        ("squeezenet1_1", "not at"),
    ],
)
def test_an_unsuitable_network_is_refused_with_a_reason(name, message):
    with pytest.raises(ValueError, match=message):
        TorchvisionBackbone(name=name, out_features=FEATURES)


def test_freezing_and_other_channels_are_refused():
    with pytest.raises(ValueError, match="FREEZE_AT 0"):
        build_backbone(tiny_cfg("MODEL.BOTTOM_UP.NAME", "build_retina_torchvision", "MODEL.BACKBONE.FREEZE_AT", 2))
    with pytest.raises(ValueError, match="3 channels, not 1"):
        TorchvisionBackbone(name="resnet18", out_features=FEATURES, in_channels=1)
