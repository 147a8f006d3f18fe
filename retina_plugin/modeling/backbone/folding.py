"""Frozen batch normalisation folded into the preceding convolution."""

from typing import Any

import torch
from torch import Tensor, nn

from detectron2.layers import Conv2d, FrozenBatchNorm2d


class FoldedConv2d(Conv2d):
    """A convolution with a ``FrozenBatchNorm2d``, computed as one convolution with scaled weights.

    The normalisation is the affine map s x + t with one pair of constants per channel, so it can be applied to the
    weights (few numbers, once) instead of the activations (many, twice in training). Parameters, buffers and their
    names are those of Detectron2's layer; gradients pass through the product with s.

    In evaluation the product is cached, in the dtype of autocast, until :meth:`train` is called, a state is loaded or a
    tensor changes in place. (Fused optimizers change weights without incrementing their version, so the cache is never
    used beyond an evaluation.)
    """

    def __init__(self, conv: Conv2d) -> None:
        """Reuse the parameters of ``conv``, whose ``norm`` is a ``FrozenBatchNorm2d``."""
        with torch.device("meta"):  # neither memory nor random numbers for weights that are replaced below
            super().__init__(
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size,
                stride=conv.stride,
                padding=conv.padding,
                dilation=conv.dilation,
                groups=conv.groups,
                bias=conv.bias is not None,
                norm=conv.norm,
                activation=conv.activation,
            )
        self.weight, self.bias = conv.weight, conv.bias
        self._kept: tuple[tuple[Any, ...], tuple[Tensor, Tensor]] | None = None

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return the weight (O, I, kh, kw) and the bias (O,) of the folded convolution."""
        norm = self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        bias = norm.bias - norm.running_mean * scale
        if self.bias is not None:
            bias = bias + self.bias * scale
        return self.weight * scale.view(-1, 1, 1, 1), bias

    def train(self, mode: bool = True) -> "FoldedConv2d":
        """Set the mode, as for any module, and clear the cached product."""
        self._kept = None
        return super().train(mode)

    def _folded_once(self) -> tuple[Tensor, Tensor]:
        """Return :meth:`folded` in the dtype of autocast, computed again only if a tensor has changed."""
        device = self.weight.device
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else self.weight.dtype
        tensors = [x for x in (self.weight, self.bias, *self.norm.buffers()) if x is not None]
        key = (device, dtype, self.weight.dtype, *((id(x), x._version) for x in tensors))
        if self._kept is None or self._kept[0] != key:
            with torch.no_grad():
                weight, bias = self.folded()
                self._kept = key, (weight.to(dtype), bias.to(dtype))
        return self._kept[1]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a map (N, I, H, W) to (N, O, H', W')."""
        fixed = not self.training and not torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        weight, bias = self._folded_once() if fixed and not torch.compiler.is_compiling() else self.folded()
        x = nn.functional.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        return x if self.activation is None else self.activation(x)


def fold_frozen_norms(module: nn.Module) -> int:
    """Replace every convolution with a ``FrozenBatchNorm2d`` in ``module`` by a :class:`FoldedConv2d`.

    Returns:
        Number of replaced convolutions.
    """
    count = 0
    for name, child in module.named_children():
        if type(child) is Conv2d and isinstance(child.norm, FrozenBatchNorm2d):
            setattr(module, name, FoldedConv2d(child))
            count += 1
        else:
            count += fold_frozen_norms(child)
    return count
