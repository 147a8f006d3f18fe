"""Depthwise convolutions that stay fast on a CPU."""

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn


class _Float32OnCpu(nn.Module):
    """Mixin for a convolution: under autocast on a CPU it computes in float32 and returns autocast's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a map (N, C, H, W) to (N, C, H', W')."""
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(torch.get_autocast_dtype("cpu"))


class Float32Conv2d(_Float32OnCpu, nn.Conv2d):
    """``torch.nn.Conv2d`` that ignores autocast on a CPU."""


class Float32Conv2dSame(_Float32OnCpu, Conv2dSame):
    """timm's ``Conv2dSame`` that ignores autocast on a CPU."""


VARIANTS: dict[type[nn.Module], type[nn.Conv2d]] = {nn.Conv2d: Float32Conv2d, Conv2dSame: Float32Conv2dSame}


def keep_depthwise_in_float32(module: nn.Module) -> int:
    """Make the depthwise convolutions in ``module`` ignore autocast on a CPU, where oneDNN has no fast bf16 gradient.

    Returns:
        Number of depthwise convolutions.
    """
    count = 0
    for conv in module.modules():
        if type(conv) in VARIANTS and isinstance(conv, nn.Conv2d) and conv.groups == conv.in_channels > 1:
            conv.__class__ = VARIANTS[type(conv)]
            count += 1
    return count
