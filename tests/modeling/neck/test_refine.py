"""Convolutions and paths over the levels of a pyramid."""

import torch

from retina_plugin.modeling.neck.refine import BottomUpPath, LevelConvs

LEVELS = [torch.randn(2, 4, 16 >> i, 24 >> i) for i in range(3)]


def identity(conv):
    """Make a 3x3 convolution copy its input (every second pixel with stride 2)."""
    torch.nn.init.zeros_(conv.weight)
    torch.nn.init.zeros_(conv.bias)
    with torch.no_grad():
        conv.weight[range(4), range(4), 1, 1] = 1


def test_the_bottom_up_path_adds_the_finer_level_at_half_its_size():
    path = BottomUpPath(num_levels=3, channels=4, norm="")
    for conv in [*path.down, *path.out]:
        identity(conv)
    levels = [x.abs() for x in LEVELS]  # positive, so that ReLU changes nothing
    n3, n4, n5 = path(levels)
    assert torch.equal(n3, levels[0])
    torch.testing.assert_close(n4, levels[1] + levels[0][..., ::2, ::2])
    torch.testing.assert_close(n5, levels[2] + n4[..., ::2, ::2])


def test_every_level_has_its_own_convolutions():
    convs = LevelConvs(num_levels=3, channels=4, num_convs=2, norm="BN")
    assert [x.shape for x in convs(LEVELS)] == [x.shape for x in LEVELS]
    assert sum(isinstance(m, torch.nn.Conv2d) for m in convs.modules()) == 6
    assert all((x >= 0).all() for x in convs(LEVELS))
