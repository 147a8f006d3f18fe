"""Fair measurements: times of alternating implementations in one process, memory in fresh processes."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

Work = Callable[[], object]
"""What is timed."""

Implementation = Callable[[torch.device], Work]
"""A function that prepares everything on a device and returns what to time."""

SHORTEST = 0.2
"""Minimum duration of one timing in seconds; shorter work is repeated."""


def timed(work: Work, repeats: int, device: torch.device) -> float:
    """Measure the seconds per run of ``work`` over ``repeats`` runs; on a GPU between two events on its stream."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(repeats):
            work()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1000 / repeats
    start_time = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start_time) / repeats


def alternate(works: dict[str, Work], *, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Time all works in turns, so that a slower machine slows all of them.

    Args:
        works: the work of each implementation, by name; each is run beforehand to warm up.
        rounds: timings of each.
        device: the device whose clock is used.

    Returns:
        The seconds of each work in each round, by name.
    """
    repeats = {name: _repeats(work, device) for name, work in works.items()}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for i in range(rounds):
        names = list(works) if i % 2 == 0 else list(reversed(works))
        for name in names:
            seconds[name].append(timed(works[name], repeats[name], device))
    return seconds


def _repeats(work: Work, device: torch.device) -> int:
    """Return how often to run ``work`` per timing; the first run warms up or compiles, the second one is timed."""
    timed(work, 1, device)
    seconds = timed(work, 1, device)
    return max(1, round(SHORTEST / max(1e-6, seconds)))


def median_and_spread(seconds: list[float]) -> tuple[float, float]:
    """Return the median, and half the interquartile range."""
    if len(seconds) < 2:
        return seconds[0], 0.0
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return statistics.median(seconds), (high - low) / 2


def extra_memory(work: Work, device: torch.device) -> float | None:
    """Measure the peak memory in bytes of one run of ``work``, above what is allocated before it.

    On a CPU it is that of the process's resident set, which is only meaningful in a fresh process, and None if the
    system is not Linux; on a GPU it is that of PyTorch's allocator.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    reset.write_text("5", encoding="utf-8")  # resets the peak to the current size
    before = _status("VmRSS")
    work()
    return max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(field))
    return int(line.split()[1]) * 1024


def extra_memory_in_fresh_process(case: str, implementation: str, device: torch.device) -> float | None:
    """Measure :func:`extra_memory` of one implementation of a case in a fresh process.

    Args:
        case: name in :data:`retina_plugin.bench.benchmarks.CASES`.
        implementation: name of one of its implementations.
        device: where to run.

    Raises:
        RuntimeError: the process failed; the message has its standard error.
    """
    command = [sys.executable, "-m", "retina_plugin.bench.memory", case, implementation, device.type]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])
