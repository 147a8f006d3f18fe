"""A run on two processes equals one on one with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

STEPS = 50


def train(file, launcher=()):
    command = [sys.executable, *launcher, str(Path(__file__).with_name("two_processes.py")), str(file), str(STEPS)]
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(file.read_text())


def test_fifty_steps_side_by_side(small_digits, tmp_path):
    """GroupNorm, and images of one size: what depends on the images of one process alone, as padding does, is left out."""
    one = train(tmp_path / "one.json")
    two = train(
        tmp_path / "two.json", ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29713"]
    )
    assert len(one["losses"]) == len(two["losses"]) == STEPS
    for a, b in zip(one["losses"], two["losses"], strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    assert two["losses"][0] == pytest.approx(one["losses"][0], rel=1e-5)
    assert two["normalizer"] == pytest.approx(one["normalizer"], rel=1e-5) and two["weights"] == pytest.approx(
        one["weights"], rel=1e-5
    )
