"""Which arithmetic the convolutions use. Losses and box decoding are float32 in any case."""

import functools
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices faster than float32 ones.

    On CPUs that takes AMX tiles or the bf16 instructions of AVX-512; elsewhere bf16 is emulated.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check() for check in checks if check)


def resolve_precision(name: str, device: torch.device) -> torch.dtype | None:
    """The autocast type for a device; None for plain float32.

    Args:
        name: "auto" (bf16 where it is fast, else fp16 on CUDA and fp32 on CPU), "fp32", "bf16" or "fp16".
        device: where the model runs.

    Raises:
        ValueError: fp16 on a CPU.
    """
    if name == "auto":
        name = "bf16" if fast_bf16(device) else "fp16" if device.type == "cuda" else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise ValueError(f"SOLVER.AMP.PRECISION fp16 needs a GPU; on {device.type} use auto, bf16 or fp32")
    return DTYPES[name]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """The context in which the model runs; for ``dtype`` None that of the caller."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


class _Float32OnCpu:
    """Mixed into a convolution class: under autocast on a CPU it computes in float32 and gives the type it got."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(torch.get_autocast_dtype("cpu"))


@functools.cache
def _float32_on_cpu(cls: type) -> type:
    return type(f"Float32OnCpu{cls.__name__}", (_Float32OnCpu, cls), {})


def keep_depthwise_in_float32(module: nn.Module) -> int:
    """Let the depthwise convolutions in ``module`` ignore autocast on a CPU: oneDNN has no fast bf16 gradient for them.

    Returns:
        How many there are.
    """
    found = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]
    for conv in found:
        conv.__class__ = _float32_on_cpu(type(conv))
    return len(found)
