"""The complete pyramid: every set of levels with every top block."""

import pytest
import torch
from support import tiny_cfg

from detectron2.modeling import build_backbone

from retina_plugin.modeling.neck import TOP_BLOCK_REGISTRY


@pytest.mark.parametrize("top_block", [name for name, _ in TOP_BLOCK_REGISTRY if name != "none"])
@pytest.mark.parametrize(
    "levels", [[3, 4, 5], [4, 5, 6, 7], [3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 7], [3, 4, 5, 6, 7, 8], [3, 4]]
)
def test_every_set_of_levels_works_with_every_top_block(levels, top_block):
    backbone = build_backbone(tiny_cfg("MODEL.RETINANET.LEVELS", levels, "MODEL.FPN.TOP_BLOCK", top_block)).eval()
    features = backbone(torch.randn(1, 3, 128, 192))
    assert list(features) == [f"p{level}" for level in levels]
    for level, (name, feature) in zip(levels, features.items(), strict=True):
        assert feature.shape == (1, 16, -(-128 // 2**level), -(-192 // 2**level)), name
        assert backbone.output_shape()[name].stride == 2**level


@pytest.mark.parametrize(
    "key, value, known",
    [
        ("MODEL.FPN.TOP_BLOCK", "conv_c6", "conv_c5"),
        ("MODEL.FPN.NAME", "fpm", "fpn"),
        ("MODEL.BOTTOM_UP.NAME", "resnet", "build_retina_resnet"),
    ],
)
def test_the_error_for_an_unknown_part_lists_the_known_ones(key, value, known):
    with pytest.raises(ValueError, match=f"{key} is '{value}'.*{known}"):
        build_backbone(tiny_cfg(key, value))


RESNET = ["MODEL.BOTTOM_UP.NAME", "build_resnet_backbone", "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]


def test_detectron2s_resnet_can_be_the_bottom_up_network():
    cfg = tiny_cfg(*RESNET, "MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"])
    assert set(build_backbone(cfg).eval()(torch.randn(1, 3, 64, 64))) == {"p3", "p4", "p5", "p6", "p7"}


def test_a_bottom_up_network_that_lacks_a_level_is_refused():
    with pytest.raises(ValueError, match=r"needs \['res3', 'res4', 'res5'\]"):
        tiny_cfg(*RESNET, "MODEL.RESNETS.OUT_FEATURES", ["res4", "res5"])
