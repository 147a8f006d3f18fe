"""Names, strides, memory layout and refusals of backbones from other libraries."""

import pytest
import torch
from support import tiny_cfg
from torch import nn

from retina_plugin.modeling.backbone.depthwise import Float32Conv2d
from retina_plugin.modeling.backbone.external import ExternalBackbone, refuse_freezing, refuse_missing_strides


class TwoMaps(ExternalBackbone):
    def __init__(self):
        net = nn.Conv2d(4, 4, 8, stride=8, groups=4)
        super().__init__(net, channels={"res3": 4, "res4": 4}, channels_last=["res4"])

    def maps_of(self, images):
        x = self.net(images)
        return {"res3": x, "res4": x[..., ::2, ::2].permute(0, 2, 3, 1)}


def test_shapes_are_announced_and_channels_come_first():
    model = TwoMaps()
    shapes = {name: (shape.channels, shape.stride) for name, shape in model.output_shape().items()}
    assert shapes == {"res3": (4, 8), "res4": (4, 16)}
    maps = model(torch.zeros(1, 4, 32, 64))
    assert {name: tuple(x.shape) for name, x in maps.items()} == {"res3": (1, 4, 4, 8), "res4": (1, 4, 2, 4)}


def test_depthwise_convolutions_are_replaced():
    assert isinstance(TwoMaps().net, Float32Conv2d)


def test_missing_strides_are_reported_with_those_that_exist():
    refuse_missing_strides("lib's net", ["res3", "res5"], [4, 8, 16, 32])
    with pytest.raises(ValueError, match=r"^lib's net has feature maps at strides \[8, 16\], not at \[4, 32\]$"):
        refuse_missing_strides("lib's net", ["res2", "res3", "res5"], [8, 16])


def test_freezing_is_refused():
    cfg = tiny_cfg("MODEL.BACKBONE.FREEZE_AT", 0)
    refuse_freezing(cfg, "build_mine")
    cfg.defrost()
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    with pytest.raises(ValueError, match="build_mine trains the whole network: set MODEL.BACKBONE.FREEZE_AT 0, not 2"):
        refuse_freezing(cfg, "build_mine")
