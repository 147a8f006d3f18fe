"""Alternating timings, medians and memory."""

import subprocess
import sys

import pytest
import torch

from retina_plugin.bench import measure
from retina_plugin.bench.measure import alternate, extra_memory_in_fresh_process, median_and_spread

CPU = torch.device("cpu")


def test_implementations_alternate_and_the_order_is_reversed_every_round(monkeypatch):
    monkeypatch.setattr(measure, "SHORTEST", 0.0)
    order = []
    seconds = alternate({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3, device=CPU)
    assert order[:4] == ["a", "a", "b", "b"], "to warm up, and to choose the number of repeats"
    assert order[4:] == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}


def test_short_work_is_repeated(monkeypatch):
    calls = []
    assert measure.timed(lambda: calls.append(1), 7, CPU) > 0
    assert len(calls) == 7


def test_median_and_half_the_interquartile_range():
    # 1, 2, 3, 4, 100 have the quartiles 2 and 4
    assert median_and_spread([100.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 1.0)
    assert median_and_spread([5.0]) == (5.0, 0.0)


@pytest.mark.slow
def test_memory_is_measured_above_what_was_allocated_before():
    program = (
        "import torch; from retina_plugin.bench.measure import extra_memory;"
        "held = torch.zeros(50 * 2**18); print(extra_memory(lambda: torch.ones(100 * 2**18).sum(), held.device))"
    )
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    printed = result.stdout.split()[-1]
    if printed == "None":
        pytest.skip("this system has no /proc/self/clear_refs")
    assert 90 * 2**20 < int(printed) < 130 * 2**20


@pytest.mark.slow
def test_failure_of_the_fresh_process_is_reported():
    with pytest.raises(RuntimeError, match="KeyError: 'no such case'"):
        extra_memory_in_fresh_process("no such case", "plugin", CPU)
