"""One run in its own process."""

import json

import pytest
from support import ROOT

from retina_plugin.ablation.worker import start_worker


@pytest.mark.slow
def test_failed_run_leaves_its_error_message(tmp_path):
    config = str(ROOT / "configs/digits/quickstart.yaml")
    plan = {"config_file": config, "num_gpus": 0, "opts": ["SOLVR.X", "1"]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert start_worker(tmp_path, threads=1) == 2
    assert "unknown key SOLVR.X" in (tmp_path / "failed.txt").read_text()
    assert not (tmp_path / "running").exists()
