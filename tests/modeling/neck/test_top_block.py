"""Top blocks: names, shapes, and how each computes its levels."""

import pytest
import torch
from torch.nn import functional

from retina_plugin.modeling.neck.top_block import TOP_BLOCK_REGISTRY

NAMES = [name for name, _ in TOP_BLOCK_REGISTRY if name != "none"]


def build(name, num_levels=2):
    return TOP_BLOCK_REGISTRY.get(name)(bottom_up_channels=24, out_channels=16, num_levels=num_levels, last_level=5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_levels", [1, 2, 3])
def test_every_level_is_half_the_size_of_the_previous_one(name, num_levels):
    block = build(name, num_levels)
    channels = 24 if block.in_feature == "res5" else 16
    outputs = block(torch.randn(2, channels, 9, 13))
    assert block.num_levels == num_levels
    assert [tuple(x.shape) for x in outputs] == [(2, 16, 5, 7), (2, 16, 3, 4), (2, 16, 2, 2)][:num_levels]


def test_p7_is_a_convolution_of_the_rectified_p6():
    block = build("conv_c5")
    x = torch.randn(1, 24, 8, 8)
    p6, p7 = block(x)
    torch.testing.assert_close(p6, block.p6(x))
    torch.testing.assert_close(p7, block.p7(functional.relu(p6)))
    assert p6.min() < 0, "P6 itself is not rectified"


def test_max_pool_takes_every_second_pixel():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert build("max_pool", 1)(x)[0].flatten().tolist() == [0, 2, 8, 10]


def test_none_refuses_to_add_levels():
    reason = "MODEL.FPN.TOP_BLOCK is 'none', but MODEL.RETINANET.LEVELS goes up to 7, and the backbone ends at 5"
    with pytest.raises(ValueError, match=reason):
        TOP_BLOCK_REGISTRY.build("none", bottom_up_channels=24, out_channels=16, num_levels=2, last_level=5)
