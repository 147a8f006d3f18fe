"""Refinements of the levels of a pyramid: further convolutions, a second bottom-up path."""

from typing import Any

import fvcore.nn.weight_init as weight_init
from torch import Tensor, nn

from detectron2.layers import Conv2d, get_norm
from detectron2.modeling.backbone import FPN


def conv3x3(channels: int, *, stride: int = 1, norm: str) -> Conv2d:
    """Return a 3x3 convolution that keeps the channels, with norm, initialised like those of the pyramid."""
    options = {"stride": stride, "padding": 1, "bias": norm == "", "norm": get_norm(norm, channels)}
    conv = Conv2d(channels, channels, kernel_size=3, **options)
    weight_init.c2_xavier_fill(conv)
    return conv


class LevelConvs(nn.Module):
    """3x3 convolutions with ReLU, separate for every level.

    Args:
        num_levels: L.
        channels: C.
        num_convs: convolutions per level.
        norm: a name of :func:`detectron2.layers.get_norm`.
    """

    def __init__(self, *, num_levels: int, channels: int, num_convs: int, norm: str) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for _ in range(num_levels):
            pairs = [(conv3x3(channels, norm=norm), nn.ReLU(inplace=True)) for _ in range(num_convs)]
            self.levels.append(nn.Sequential(*(layer for pair in pairs for layer in pair)))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map L maps (N, C, Hi, Wi), finest first, to L maps of the same shapes."""
        return [convs(x) for convs, x in zip(self.levels, levels, strict=True)]


class BottomUpPath(nn.Module):
    """A bottom-up path from the finest level: to each level the refined next finer one is added, at half its size.

    Args:
        num_levels: L.
        channels: C.
        norm: a name of :func:`detectron2.layers.get_norm`.

    Source: Liu et al. 2018, *Path Aggregation Network for Instance Segmentation*, section 3.1.
    """

    def __init__(self, *, num_levels: int, channels: int, norm: str) -> None:
        super().__init__()
        self.down = nn.ModuleList(conv3x3(channels, stride=2, norm=norm) for _ in range(num_levels - 1))
        self.out = nn.ModuleList(conv3x3(channels, norm=norm) for _ in range(num_levels - 1))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map L maps (N, C, Hi, Wi), finest first, to L maps of the same shapes."""
        result = levels[:1]
        for down, out, level in zip(self.down, self.out, levels[1:], strict=True):
            result.append(out(down(result[-1]).relu() + level).relu())
        return result


class RefinedFPN(FPN):
    """Detectron2's feature pyramid network, followed by ``refine``.

    Args:
        refine: maps L maps (N, C, Hi, Wi), finest first, to L maps of the same shapes.
        fpn_arguments: arguments of :class:`detectron2.modeling.backbone.FPN`.
    """

    def __init__(self, *, refine: nn.Module, **fpn_arguments: Any) -> None:
        super().__init__(**fpn_arguments)
        self.refine = refine

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, H, W) to the levels by name, finest first."""
        levels = super().forward(images)
        return dict(zip(levels, self.refine(list(levels.values())), strict=True))
