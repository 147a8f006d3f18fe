"""tools/gpu_check.py: what can be tried without a GPU."""

import json
import subprocess
import sys

import pytest
import torch
from support import ROOT

pytestmark = pytest.mark.slow


def call(*words):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "tools/gpu_check.py", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_run():
    result = call()
    assert result.returncode == 2 and "torch finds no GPU here" in result.stderr and not result.stdout


def test_an_unknown_part_is_named():
    result = call("nope")
    assert result.returncode == 2 and "unknown: nope; known: parity" in result.stderr


@pytest.mark.slow
def test_the_command_itself_on_a_cpu(tmp_path):
    result = call("variants", "--device", "cpu", "--output", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "gpu_check.json").read_text())
    assert found["variants"]["largest relative difference of a loss"] == 0 and found["variants"]["variants"] >= 25
    assert "| variants | ok | True |" in (tmp_path / "gpu_check.md").read_text()
