"""Time and memory, measured fairly: in turns within one process, and in fresh processes."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

Work = Callable[[], object]

SHORTEST = 0.2
"""Seconds that one timing takes at least; shorter work is repeated."""


def timed(work: Work, repeats: int, device: torch.device) -> float:
    """Seconds of one run of ``work``, over ``repeats`` of them; on a GPU between two events on its stream."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(repeats):
            work()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1000 / repeats
    begin = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - begin) / repeats


def alternate(sides: dict[str, Work], *, rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each side in each round: one after the other, so that what slows the machine slows all.

    Args:
        sides: what to run, by name; each is run before, to warm up.
        rounds: timings of each.
        device: for its clock.
    """
    repeats = {name: _repeats(work, device) for name, work in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(rounds):
        names = list(sides) if i % 2 == 0 else list(reversed(sides))
        for name in names:
            seconds[name].append(timed(sides[name], repeats[name], device))
    return seconds


def _repeats(work: Work, device: torch.device) -> int:
    """How often to run ``work`` for one timing. The first run warms up, or compiles; a second one tells how long it takes."""
    timed(work, 1, device)
    seconds = timed(work, 1, device)
    return max(1, round(SHORTEST / max(1e-6, seconds)))


def median_and_spread(seconds: list[float]) -> tuple[float, float]:
    """Median, and half the distance between the quartiles."""
    if len(seconds) < 2:
        return seconds[0], 0.0
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return statistics.median(seconds), (high - low) / 2


def extra_memory(work: Work, device: torch.device) -> float | None:
    """Most bytes that one run of ``work`` holds above what is held before it.

    On a CPU by the resident set of the process, so only meaningful in a fresh one, and None where
    the system is not Linux; on a GPU by PyTorch's allocator.
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
    reset.write_text("5", encoding="utf-8")  # sets the high-water mark back to the present size
    before = _status("VmRSS")
    work()
    return max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    """Bytes that /proc/self/status tells."""
    line = next(
        line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith(field)
    )
    return int(line.split()[1]) * 1024


def extra_memory_in_fresh_process(case: str, side: str, device: torch.device) -> float | None:
    """:func:`extra_memory` of one side of a case of :mod:`retina_plugin.bench.benchmarks`.

    Raises:
        RuntimeError: the process failed; with what it wrote.
    """
    command = [sys.executable, "-m", "retina_plugin.bench.memory", case, side, device.type]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])
