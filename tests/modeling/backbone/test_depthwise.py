"""Depthwise convolutions under autocast on a CPU."""

import copy
import pickle

import torch
from timm.layers import Conv2dSame

from retina_plugin.modeling.backbone.depthwise import keep_depthwise_in_float32


def test_depthwise_convolutions_compute_in_float32_and_return_autocasts_dtype():
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 1), torch.nn.Conv2d(8, 8, 3, groups=8))
    assert keep_depthwise_in_float32(net) == 1
    names, seen = list(net.state_dict()), []
    net[1].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    x = torch.randn(1, 4, 9, 9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        middle = net[0](x)
        got = net[1](middle)
    want = torch.nn.functional.conv2d(middle.float(), net[1].weight, net[1].bias, groups=8)
    assert torch.equal(got, want.bfloat16()), "rounded once, at the end"
    assert net(x).dtype == torch.float32 and seen == [torch.bfloat16, torch.float32]
    assert list(net.state_dict()) == names and list(copy.deepcopy(net).state_dict()) == names
    net[1]._forward_hooks.clear()
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), net(x))


def test_timms_same_padded_convolutions_are_found_and_ordinary_ones_unchanged():
    net = torch.nn.Sequential(
        Conv2dSame(6, 6, 5, stride=2, groups=6), torch.nn.Conv2d(6, 6, 3, groups=3), torch.nn.Conv2d(1, 4, 3)
    )
    assert keep_depthwise_in_float32(net) == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net[0](torch.randn(1, 6, 9, 9)).shape == (1, 6, 5, 5)
