"""The table of an evaluation."""

import json
import math

from retina_plugin.evaluation.result_table import format_results, write_results

RESULTS = {
    "bbox": {"AP": 12.346, "AP50": 20.0, "AP75": 10.0, "APs": math.nan, "APm": 1.0, "APl": 2.0, "AP-cat": 12.346}
}


def test_metric_without_ground_truth_is_not_available():
    text = format_results(RESULTS, "pets")
    assert "| 12.35 | 20.00 | 10.00 | n/a (no ground truth) | 1.00 | 2.00 |" in text and "| cat | 12.35 |" in text


def test_both_files_are_written(tmp_path):
    assert write_results(RESULTS, str(tmp_path), "pets").read_text().startswith("# pets")
    assert json.loads((tmp_path / "results.json").read_text())["bbox"]["AP50"] == 20.0
