"""What a figure was measured on."""

import platform
from pathlib import Path

import torch


def machine() -> str:
    """Processor or GPU, threads and versions, in one line."""
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
        name = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor()
        )
        flags = next((line.split() for line in lines if line.startswith("flags")), [])
        found = [
            label
            for label, flag in (("AMX", "amx_bf16"), ("AVX-512 BF16", "avx512_bf16"), ("AVX-512", "avx512f"))
            if flag in flags
        ]
        name += f" ({found[0] if found else 'no AVX-512'})"
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"
