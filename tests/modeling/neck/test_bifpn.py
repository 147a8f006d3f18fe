"""Weighted fusion computed by hand, and gradients from every output to every input."""

import pytest
import torch
from support import tiny_cfg
from torch import nn

from detectron2.modeling import build_backbone

from retina_plugin.modeling.neck.bifpn import BiFPNLayer, WeightedSum


def test_fusion_worked_by_hand():
    fuse = WeightedSum(3)
    fuse.weight.data = torch.tensor([1.0, -5.0, 3.0])  # a negative weight counts as 0
    maps = [torch.full((1, 1, 1, 1), x) for x in (4.0, 100.0, 8.0)]
    # (1 · 4 + 3 · 8) / (4 + 0.0001) = 6.99983
    assert fuse(maps).item() == pytest.approx(28 / 4.0001)


def test_every_output_of_a_layer_depends_on_every_input():
    layer = BiFPNLayer(num_levels=3, channels=4, norm="")
    levels = [torch.randn(1, 4, 16 >> i, 16 >> i, requires_grad=True) for i in range(3)]
    for output in layer(levels):
        grads = torch.autograd.grad(output.sum(), levels, retain_graph=True)
        assert all(g.abs().sum() > 0 for g in grads)


@pytest.mark.parametrize(
    "levels, top_block",
    [([3, 4, 5, 6, 7], "conv_c5"), ([2, 3, 4], "conv_c5"), ([3, 4, 5, 6], "conv_p5"), ([4, 5, 6, 7], "max_pool")],
)
def test_levels_and_strides_follow_the_key(levels, top_block):
    pyramid = ["MODEL.FPN.NAME", "bifpn", "MODEL.FPN.BIFPN_LAYERS", 2, "MODEL.FPN.TOP_BLOCK", top_block]
    backbone = build_backbone(tiny_cfg(*pyramid, "MODEL.RETINANET.LEVELS", levels)).eval()
    outputs = backbone(torch.randn(1, 3, 128, 128))
    assert {name: 128 // x.shape[-1] for name, x in outputs.items()} == {f"p{level}": 2**level for level in levels}
    assert len(backbone.layers) == 2


def test_a_single_level_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        build_backbone(tiny_cfg("MODEL.FPN.NAME", "bifpn", "MODEL.RETINANET.LEVELS", [4]))


@pytest.mark.parametrize("norm, layer", [(None, nn.BatchNorm2d), ("GN", nn.GroupNorm), ("", None)])
def test_bifpn_has_its_own_norm_key_with_batch_norm_as_default(norm, layer):
    options = [] if norm is None else ["MODEL.FPN.BIFPN_NORM", norm]
    pyramid = ["MODEL.FPN.NAME", "bifpn", "MODEL.FPN.OUT_CHANNELS", 32, "MODEL.FPN.BIFPN_LAYERS", 2]
    backbone = build_backbone(tiny_cfg(*pyramid, *options))
    modules = [*backbone.laterals.modules(), *backbone.layers.modules()]
    found = [m for m in modules if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)]
    # three laterals, and 2 layers of 4 convolutions down and 4 up
    assert [type(m) for m in found] == ([layer] * 19 if layer else [])
