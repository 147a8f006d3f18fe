"""Precision of the convolutions. Losses and box decoding are always float32."""

from contextlib import AbstractContextManager, nullcontext

import torch

from detectron2.config import CfgNode

from retina_plugin.config.resolve import fast_bf16_on_cpu

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def precision_of(cfg: CfgNode) -> str:
    """Return the name of the precision that a config asks for: "auto", "fp32", "bf16" or "fp16".

    This is SOLVER.AMP.PRECISION if SOLVER.AMP.ENABLED is set. Without it, "fp32", except that a model on a CPU, where
    Detectron2's AMP cannot be enabled, takes "bf16" if PRECISION names it.
    """
    amp = cfg.SOLVER.AMP
    if not amp.ENABLED and (amp.PRECISION in ("auto", "fp16") or torch.device(cfg.MODEL.DEVICE).type != "cpu"):
        return "fp32"
    return amp.PRECISION


def fast_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return fast_bf16_on_cpu()


def resolve_precision(name: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast dtype for a device; None for plain float32.

    Args:
        name: "auto" (bf16 where it is fast, else fp16 on CUDA and fp32 on CPU), "fp32", "bf16" or "fp16".
        device: device of the model.

    Raises:
        ValueError: if fp16 is asked for without a GPU.
    """
    if name == "auto":
        without_bf16 = "fp16" if device.type == "cuda" else "fp32"
        name = "bf16" if fast_bf16(device) else without_bf16
    if name == "fp16" and device.type != "cuda":
        raise ValueError(f"SOLVER.AMP.PRECISION fp16 needs a GPU; on {device.type} use auto, bf16 or fp32")
    return DTYPES[name]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Return the context in which the model runs; for ``dtype`` None, that of the caller."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
