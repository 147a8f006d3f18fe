"""A run on two processes equals a run on one with the same total batch size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

STEPS = 50


def train(file, launcher=()):
    command = [sys.executable, *launcher, str(Path(__file__).with_name("two_processes.py")), str(file), str(STEPS)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(file.read_text())


@pytest.mark.long
def test_fifty_steps_on_two_processes_equal_those_on_one(small_digits, tmp_path):
    """With GroupNorm and images of one size: BatchNorm and padding would depend on the images of each process."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29713"]
    one, two = train(tmp_path / "one.json"), train(tmp_path / "two.json", launcher)
    assert len(one["losses"]) == len(two["losses"]) == STEPS
    for a, b in zip(one["losses"], two["losses"], strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    assert two["losses"][0] == pytest.approx(one["losses"][0], rel=1e-5)
    assert two["normalizer"] == pytest.approx(one["normalizer"], rel=1e-5)
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-5)
