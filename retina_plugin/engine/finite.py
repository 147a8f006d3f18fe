"""Find tensors with infinities or NaN."""

from collections.abc import Mapping

import torch
from torch import Tensor


@torch.no_grad()
def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the floating-point tensors that hold an infinity or NaN.

    Costs one reduction per tensor and one copy from the device for all of them.

    Args:
        tensors: by name, of any shape (...,), all on one device.

    Example:
        >>> non_finite({"a": torch.ones(2), "b": torch.tensor([1.0, float("inf")]), "steps": torch.tensor(3)})
        ['b']
    """
    names = [name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel()]
    if not names:
        return []
    # The largest magnitude instead of the Euclidean norm: a sum of squares overflows long before a weight does.
    norms = torch._foreach_norm([tensors[name].detach() for name in names], ord=float("inf"))
    finite = torch.isfinite(torch.stack([norm.float() for norm in norms])).tolist()
    return [name for name, good in zip(names, finite, strict=True) if not good]
