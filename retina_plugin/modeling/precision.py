"""Which arithmetic the convolutions use. Losses and box decoding are float32 in any case."""

from contextlib import AbstractContextManager, nullcontext

import torch

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
