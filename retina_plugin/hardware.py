"""The hardware that a measurement was made on."""

import platform
import sys
from pathlib import Path

import torch


def describe_hardware() -> str:
    """Return the name of the GPU, or else of the processor, the number of threads and torch's version, in one line."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else _describe_processor()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _describe_processor() -> str:
    """Return the processor's name and its fastest matrix or vector instructions, from /proc/cpuinfo where it exists."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    flags: list[str] = next((line.split() for line in lines if line.startswith("flags")), [])
    extensions = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16", "avx512f": "AVX-512"}
    fastest = next((label for flag, label in extensions.items() if flag in flags), "no AVX-512")
    return f"{next(names, platform.processor())} ({fastest})"


def peak_memory_mib() -> float:
    """Return the peak memory of this process in MiB: of the GPU if there is one, else resident; 0 if it is unknown."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows has no such module
        return 0.0
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 2**20 if sys.platform == "darwin" else kib / 2**10
