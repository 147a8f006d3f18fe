"""A weighted pyramid with repeated top-down and bottom-up paths."""

import functools
from typing import cast

import fvcore.nn.weight_init as weight_init
import torch
from torch import Tensor, nn

from detectron2.layers import Conv2d, get_norm
from detectron2.modeling.backbone import Backbone

EPSILON = 1e-4
"""Prevents a division by 0 when the weights of a fusion are normalised (Tan et al. 2020, section 3.3)."""


class WeightedSum(nn.Module):
    """Fast normalised fusion: the weighted mean of several maps; the learned weights are made non-negative by ReLU.

    Args:
        num_inputs: number of maps.
    """

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_inputs))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Fuse maps of the same shape (N, C, H, W) into one."""
        weight = self.weight.relu()
        shares = weight / (weight.sum() + EPSILON)
        return functools.reduce(torch.add, [share * x for share, x in zip(shares, maps, strict=True)])


class BiFPNLayer(nn.Module):
    """One top-down and one bottom-up path over all levels.

    Args:
        num_levels: L, at least 2.
        channels: C.
        norm: a name of :func:`detectron2.layers.get_norm`.
    """

    def __init__(self, *, num_levels: int, channels: int, norm: str) -> None:
        super().__init__()
        self.sum_down = nn.ModuleList(WeightedSum(2) for _ in range(num_levels - 1))
        self.conv_down = nn.ModuleList(self._conv(channels, norm) for _ in range(num_levels - 1))
        # The coarsest level has no top-down map other than its input.
        self.sum_up = nn.ModuleList(WeightedSum(3 if i < num_levels - 1 else 2) for i in range(1, num_levels))
        self.conv_up = nn.ModuleList(self._conv(channels, norm) for _ in range(num_levels - 1))

    @staticmethod
    def _conv(channels: int, norm: str) -> nn.Sequential:
        """Return Swish followed by a depthwise separable convolution."""
        depthwise = nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels, bias=False)
        pointwise = Conv2d(channels, channels, kernel_size=1, bias=norm == "", norm=get_norm(norm, channels))
        weight_init.c2_xavier_fill(pointwise)
        return nn.Sequential(nn.SiLU(), depthwise, pointwise)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Map L maps (N, C, Hi, Wi), finest first, to L maps of the same shapes."""
        last = len(levels) - 1
        down = list(levels)
        for i in reversed(range(last)):
            coarser = nn.functional.interpolate(down[i + 1], size=levels[i].shape[-2:], mode="nearest")
            down[i] = self.conv_down[i](self.sum_down[i]([levels[i], coarser]))
        result = down[:1]
        for i in range(1, last + 1):
            finer = nn.functional.max_pool2d(result[-1], kernel_size=3, stride=2, padding=1)
            maps = [levels[i], down[i], finer] if i < last else [levels[i], finer]
            result.append(self.conv_up[i - 1](self.sum_up[i - 1](maps)))
        return result


class BiFPN(Backbone):
    """A bottom-up network, its top block, and BiFPN layers on all levels.

    Args:
        bottom_up: network that yields ``in_features``.
        in_features: names of its maps, finest first.
        out_channels: C.
        norm: a name of :func:`detectron2.layers.get_norm`, after every convolution except those of the top block;
            "BN" in the paper.
        top_block: a module of ``TOP_BLOCK_REGISTRY``, or None; its "p<l>" is the last lateral map.
        num_layers: number of layers.
        refine: module applied to the levels afterwards, or None.

    Raises:
        ValueError: if there are fewer than two levels.

    Source: Tan et al. 2020, *EfficientDet*, section 3. Levels above the backbone's come from the top block.
    """

    def __init__(
        self,
        *,
        bottom_up: Backbone,
        in_features: list[str],
        out_channels: int,
        norm: str,
        top_block: nn.Module | None,
        num_layers: int,
        refine: nn.Module | None = None,
    ) -> None:
        super().__init__()
        shapes = bottom_up.output_shape()
        self.bottom_up, self.top_block, self.in_features = bottom_up, top_block, list(in_features)
        self.laterals = nn.ModuleDict()
        for name in in_features:
            options = {"kernel_size": 1, "bias": norm == "", "norm": get_norm(norm, out_channels)}
            lateral = Conv2d(shapes[name].channels, out_channels, **options)
            weight_init.c2_xavier_fill(lateral)
            self.laterals[name] = lateral
        strides = [shapes[name].stride for name in in_features]
        self._size_divisibility = strides[-1]
        num_top_levels = cast("int", top_block.num_levels) if top_block else 0
        strides += [strides[-1] * 2**i for i in range(1, num_top_levels + 1)]
        self._out_features = [f"p{stride.bit_length() - 1}" for stride in strides]
        self._out_feature_strides = dict(zip(self._out_features, strides, strict=True))
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)
        if len(strides) < 2:
            raise ValueError("MODEL.FPN.NAME bifpn fuses levels, so MODEL.RETINANET.LEVELS needs at least two")
        self.layers = nn.Sequential(
            *(BiFPNLayer(num_levels=len(strides), channels=out_channels, norm=norm) for _ in range(num_layers))
        )
        self.refine = refine

    @property
    def size_divisibility(self) -> int:
        """Coarsest lateral stride, to a multiple of which images are padded."""
        return self._size_divisibility

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, H, W) to the levels by name, finest first."""
        features = self.bottom_up(images)
        levels = [self.laterals[name](features[name]) for name in self.in_features]
        if self.top_block is not None:
            source = self.top_block.in_feature
            levels += self.top_block(features[source] if source in features else levels[-1])
        levels = self.layers(levels)
        if self.refine is not None:
            levels = self.refine(levels)
        return dict(zip(self._out_features, levels, strict=True))
