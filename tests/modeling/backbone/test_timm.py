"""timm's networks as backbones."""

import pytest
import torch
from support import tiny_cfg

from detectron2.modeling import build_backbone

from retina_plugin.modeling.backbone.timm import TimmBackbone


@pytest.mark.parametrize(
    "name",
    ["tf_efficientnet_lite0", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224", "darknet53", "convnext_atto"],
)
def test_channels_and_strides_are_read_from_the_network(name):
    features = ["res3", "res4", "res5"]
    model = TimmBackbone(name=name, out_features=features).eval()
    outputs = model(torch.randn(1, 3, 64, 96))
    for feature, stride in zip(features, (8, 16, 32), strict=True):
        shape = model.output_shape()[feature]
        assert shape.stride == stride
        assert outputs[feature].shape == (1, shape.channels, 64 // stride, 96 // stride)


def test_a_pyramid_can_be_built_on_it():
    cfg = tiny_cfg("MODEL.BOTTOM_UP.NAME", "build_retina_timm", "MODEL.RETINANET.LEVELS", [3, 4, 5, 6])
    assert set(build_backbone(cfg).eval()(torch.randn(1, 3, 64, 64))) == {"p3", "p4", "p5", "p6"}


def test_unknown_networks_and_missing_strides_are_refused():
    with pytest.raises(ValueError, match="resnet5000"):
        TimmBackbone(name="resnet5000", out_features=["res3"])
    with pytest.raises(ValueError, match=r"not at \[4, 8\]"):
        TimmBackbone(name="vit_tiny_patch16_224", out_features=["res2", "res3"])


def test_freezing_is_refused():
    with pytest.raises(ValueError, match="FREEZE_AT 0"):
        build_backbone(tiny_cfg("MODEL.BOTTOM_UP.NAME", "build_retina_timm", "MODEL.BACKBONE.FREEZE_AT", 2))
