"""tools/compare_plans.py, small, and the table of what it measured."""

import json
import os
import subprocess
import sys

import pytest
from support import ROOT


def command(*words, **env):
    line = [sys.executable, *map(str, words)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **env}, timeout=300)


@pytest.mark.slow
def test_a_side_is_trained_once_and_recorded(small_digits, tmp_path):
    words = ["tools/compare_plans.py", "digits", "--minutes", 0.3, "--seeds", 1, "--images", 4]
    words += ["--output", tmp_path / "runs", "--results", tmp_path / "runs.json", "--sides", "fixed", "detectron2"]
    result = command(*words)
    assert result.returncode == 0, result.stderr[-3000:]
    first = (tmp_path / "runs.json").read_text()
    fixed, theirs = json.loads(first)
    assert (fixed["side"], theirs["side"]) == ("fixed", "detectron2") and fixed["images"] == theirs["images"] == 4
    assert all(run["steps"] >= 2 and set(run["val"]) == {"AP", "AP50", "AP75", "APs"} for run in (fixed, theirs))
    assert command(*words).returncode == 0
    assert (tmp_path / "runs.json").read_text() == first, "nothing is trained again"


def run_of(side, seed, ap, images=0):
    scores = {"AP": ap, "AP50": 80.0, "AP75": 50.0, "APs": -1.0}
    about = {"data": "cells", "images": images, "minutes": 6.0, "took": 6.1, "steps": 300, "side": side, "seed": seed}
    return {**about, "val": scores, "test": scores}


def test_the_table_compares_the_plan_with_the_others(tmp_path):
    aps = {"plan": (50, 51, 52), "fixed": (48, 49, 50), "detectron2": (40, 41, 42)}
    runs = [run_of(side, seed, ap) for side, values in aps.items() for seed, ap in enumerate(values)]
    runs += [run_of("plan", 1, 45.0, images=n) for n in (25, 50)]
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    words = ["--curve", tmp_path / "curve.png", "--data", "cells"]
    result = command("tools/plan_table.py", tmp_path / "runs.json", *words)
    assert result.returncode == 0, result.stderr
    assert "| cells | 6 | plan | 6.1 | 51.0 ± 1.0 | 80.0 ± 0.0 | - |  | 300 |" in result.stdout
    assert (
        "| cells | 6 | Detectron2's RetinaNet | 6.1 | 41.0 ± 1.0 | 80.0 ± 0.0 | - | +10.0 (+7.7 to +12.3) | 300 |"
        in result.stdout
    )
    assert "| cells, 25 images | 6 | plan | 6.1 | 45.0 | 80.0 | - |  | 300 |" in result.stdout
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_the_page_shows_what_was_measured():
    result = command("tools/plan_table.py")
    assert result.returncode == 0, result.stderr
    page = (ROOT / "docs/plan.md").read_text(encoding="utf-8")
    assert [line for line in result.stdout.splitlines() if line not in page] == []
