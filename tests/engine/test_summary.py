"""The summary, which is the last file of a run."""

import json

import torch
from support import tiny_cfg

from retina_plugin.engine.summary import median_iteration_time, write_summary


def test_the_summary_holds_results_speed_and_sizes(tmp_path):
    lines = [
        {"iteration": 19, "time": 0.5},
        {"iteration": 39, "time": 0.25},
        {"iteration": 39, "bbox/AP": 3.0},
        {"iteration": 59, "time": 0.125},
    ]
    (tmp_path / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    file = write_summary(tiny_cfg("OUTPUT_DIR", str(tmp_path), "SOLVER.IMS_PER_BATCH", 8), model, {"bbox": {"AP": 1.0}})
    summary = json.loads(file.read_text())
    assert file.name == "summary.json" and summary["results"] == {"bbox": {"AP": 1.0}}
    assert summary["images_per_second"] == 8 / 0.25
    assert (summary["parameters"], summary["trained_parameters"], summary["precision"]) == (8, 6, "float32")


def test_a_run_without_a_timed_iteration_has_no_speed(tmp_path):
    assert median_iteration_time(tmp_path / "metrics.json") is None
