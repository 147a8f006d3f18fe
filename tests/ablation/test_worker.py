"""One run in a process of its own."""

import json

from conftest import ROOT

from retina_plugin.ablation.worker import start_worker


def test_a_mistake_leaves_its_sentence(tmp_path):
    (tmp_path / "plan.json").write_text(
        json.dumps(
            {"config_file": str(ROOT / "configs/digits/quickstart.yaml"), "num_gpus": 0, "opts": ["SOLVR.X", "1"]}
        )
    )
    assert start_worker(tmp_path, threads=1) == 2
    assert "unknown key SOLVR.X" in (tmp_path / "failed.txt").read_text()
    assert not (tmp_path / "running").exists()
