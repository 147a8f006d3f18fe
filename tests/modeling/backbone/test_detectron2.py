"""Detectron2's RegNet, Swin and ViT as backbones."""

import itertools

import pytest
import torch
from support import BASE

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, build_backbone

from retina_plugin import load_config
from retina_plugin.modeling.backbone.detectron2 import NETWORKS, VITS


def cfg_for(*opts):
    common = {
        "MODEL.DEVICE": "cpu",
        "MODEL.RETINANET.NUM_CLASSES": 3,
        "MODEL.WEIGHTS": "x.pth",
        "MODEL.BACKBONE.FREEZE_AT": 0,
        "MODEL.FPN.OUT_CHANNELS": 32,
    }
    return load_config(BASE, [*itertools.chain(*common.items()), *opts])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("levels", [[2, 3, 4, 5], [4, 5, 6]])
def test_maps_have_the_announced_shapes(name, levels):
    network = ["MODEL.BOTTOM_UP.NAME", "build_retina_detectron2", "MODEL.DETECTRON2.NAME", name]
    cfg = cfg_for(*network, "MODEL.RETINANET.LEVELS", levels)
    net = BACKBONE_REGISTRY.get("build_retina_detectron2")(cfg, ShapeSpec(channels=3)).eval()
    with torch.no_grad():
        maps = net(torch.rand(1, 3, 64, 96))
    shapes = net.output_shape()
    assert list(maps) == list(shapes) == [f"res{level}" for level in levels if level <= 5]
    for feature, x in maps.items():
        stride = shapes[feature].stride
        assert stride == 2 ** int(feature[-1]) and x.shape == (1, shapes[feature].channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("name", VITS)
@pytest.mark.parametrize("levels", [[2, 3, 4, 5, 6], [3, 4, 5, 6, 7], [4, 5]])
def test_a_plain_vit_has_all_levels(name, levels):
    network = ["MODEL.BACKBONE.NAME", "build_retina_vit_backbone", "MODEL.DETECTRON2.NAME", name]
    top_block = "conv_p5" if levels[-1] > 5 else "none"
    cfg = cfg_for(*network, "MODEL.RETINANET.LEVELS", levels, "MODEL.FPN.TOP_BLOCK", top_block)
    net = build_backbone(cfg).eval()
    assert net.size_divisibility == 32
    with torch.no_grad():
        maps = net(torch.rand(1, 3, 64, 96))
    want = {f"p{level}": (1, 32, -(-64 // 2**level), -(-96 // 2**level)) for level in levels}
    assert {feature: tuple(x.shape) for feature, x in maps.items()} == want


def test_every_parameter_gets_a_gradient():
    network = ["MODEL.BACKBONE.NAME", "build_retina_vit_backbone", "MODEL.DETECTRON2.NAME", "vit_ti"]
    net = build_backbone(cfg_for(*network, "MODEL.RETINANET.LEVELS", [3, 4, 5]))
    sum(x.square().sum() for x in net(torch.rand(2, 3, 64, 64)).values()).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
