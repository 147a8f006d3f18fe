"""Which arithmetic the convolutions use. Losses and box decoding are float32 in any case."""

from contextlib import AbstractContextManager, nullcontext

import torch

from detectron2.config import CfgNode

from retina_plugin.config.resolve import fast_bf16_on_cpu

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def precision_of(cfg: CfgNode) -> str:
    """The name of the precision that a config asks for: "auto", "fp32", "bf16" or "fp16".

    SOLVER.AMP.PRECISION, if SOLVER.AMP.ENABLED is set or the model runs on a CPU, where Detectron2's AMP cannot be enabled.
    """
    amp = cfg.SOLVER.AMP
    if not amp.ENABLED and (amp.PRECISION in ("auto", "fp16") or torch.device(cfg.MODEL.DEVICE).type != "cpu"):
        return "fp32"
    return amp.PRECISION


def fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices faster than float32 ones."""
    return torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else fast_bf16_on_cpu()


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
