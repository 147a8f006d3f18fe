"""tools/compare_with_detectron2.py, small: both sides train and report."""

import json
import os
import subprocess
import sys

import pytest
from support import ROOT, SMALL

pytestmark = pytest.mark.slow


def test_both_sides_report(small_digits, tmp_path):
    opts = [
        *SMALL,
        "SOLVER.MAX_ITER",
        2,
        "SOLVER.WARMUP_ITERS",
        1,
        "OUTPUT_DIR",
        tmp_path,
        "MODEL.RETINANET.SCORE_THRESH_TEST",
        0.001,
    ]
    command = [
        sys.executable,
        "tools/compare_with_detectron2.py",
        "--config-file",
        "configs/digits/quickstart.yaml",
        *map(str, opts),
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ), timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert {"AP", "AP50", "AP75", "minutes"} == set(written["plugin"]) == set(written["detectron2"])
