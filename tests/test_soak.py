"""tools/soak.py, as short as it goes."""

import importlib.util
import json
import subprocess
import sys

import pytest
from support import ROOT


@pytest.fixture(scope="module")
def soak():
    spec = importlib.util.spec_from_file_location("soak", ROOT / "tools/soak.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
def test_killed_runs_end_with_the_weights_of_one_that_was_not(soak, small_digits, tmp_path):
    result = soak.kills(tmp_path, count=2, iterations=40)
    assert result["kills"] >= 1 and result["weights equal bit by bit"] is True


@pytest.mark.slow
def test_memory_and_a_large_evaluation(soak, small_digits, tmp_path):
    found = soak.memory(tmp_path, batches=200)
    assert len(found) == 3 and (tmp_path / "memory.png").stat().st_size > 5000
    assert soak.evaluation(tmp_path, images=50, per_image=4)["detections"] == 200
    assert len(json.loads((tmp_path / "evaluation/coco_instances_results.json").read_text())) == 200


def test_a_part_that_does_not_exist_is_named(tmp_path):
    result = subprocess.run(
        [sys.executable, "tools/soak.py", "nope", "--output", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2 and "unknown: nope; known: fuzz" in result.stderr
