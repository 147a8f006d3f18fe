"""Depthwise convolutions that are not slow on a CPU."""

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn


class _Float32OnCpu:
    """Mixed into a convolution: under autocast on a CPU it computes in float32 and gives autocast's type."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(torch.get_autocast_dtype("cpu"))


class Float32Conv2d(_Float32OnCpu, nn.Conv2d):
    """``torch.nn.Conv2d`` that ignores autocast on a CPU."""


class Float32Conv2dSame(_Float32OnCpu, Conv2dSame):
    """timm's ``Conv2dSame`` that ignores autocast on a CPU."""


VARIANTS = {nn.Conv2d: Float32Conv2d, Conv2dSame: Float32Conv2dSame}


def keep_depthwise_in_float32(module: nn.Module) -> int:
    """Let the depthwise convolutions in ``module`` ignore autocast on a CPU: oneDNN has no fast bf16 gradient for them.

    Returns:
        How many there are.
    """
    found = [m for m in module.modules() if type(m) in VARIANTS and m.groups == m.in_channels > 1]
    for conv in found:
        conv.__class__ = VARIANTS[type(conv)]
    return len(found)
