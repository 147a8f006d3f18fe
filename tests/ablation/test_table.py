"""Means, spreads and differences of a sweep, by hand."""

import csv
import io
import json
import math

import pytest
from conftest import ROOT

from retina_plugin.ablation import collect, load_sweep

SWEEP = f"""
title: three losses
base: {ROOT / "configs/ablations/digits.yaml"}
seeds: [1, 2]
axes: {{loss: {{a: {{}}, b: {{MODEL.RETINANET.CLS_LOSS: ohem}}, c: {{MODEL.RETINANET.CLS_LOSS: cross_entropy}}}}}}
report: [AP, AP50]
paper: {{b: {{AP: 36.0}}}}
"""


def table(tmp_path, values, **kwargs):
    """values: label -> one AP a seed; None: not run, a string: failed."""
    (tmp_path / "mine.yaml").write_text(SWEEP)
    sweep = load_sweep(tmp_path / "mine.yaml", **kwargs)
    folders = []
    for run in sweep.runs:
        folder = tmp_path / run.name(("loss",))
        folder.mkdir()
        folders.append(folder)
        value = values[run.labels[0]][sweep.seeds.index(run.seed)]
        if isinstance(value, str):
            (folder / "failed.txt").write_text(value)
        elif value is not None:
            box = {"AP": value, "AP50": 2 * value}
            cost = {"images_per_second": 40.0, "peak_memory_mib": 900.0, "parameters": 3_500_000, "machine": "a CPU", "precision": "bfloat16"}
            (folder / "summary.json").write_text(json.dumps({"results": {"bbox": box}, **cost}))
    return collect(sweep, folders)


def test_mean_spread_and_difference(tmp_path):
    found = table(tmp_path, {"a": [40.0, 42.0], "b": [44.0, 48.0], "c": [41.0, 43.0]})
    a, b, c = found.rows
    assert a.mean("AP") == 41 and a.sd("AP") == pytest.approx(math.sqrt(2))
    # Pooled: variances 2, 8, 2 with one degree of freedom each.
    assert found.spread("AP") == pytest.approx(2.0)
    # Standard error of a difference of two means of two: 2 * sqrt(1/2 + 1/2) = 2, so certain from 4 on.
    assert found.difference(b, "AP") == (5.0, True)
    assert found.difference(c, "AP") == (1.0, False)
    assert found.difference(a, "AP") is None
    lines = found.markdown().splitlines()
    assert lines[2] == "| a | 41.0 ± 1.4 | 82.0 ± 2.8 | base | 3.50 | 40.0 | 900 |  |"
    assert lines[3] == "| b | 46.0 ± 2.8 | 92.0 ± 5.7 | +5.0 | 3.50 | 40.0 | 900 | 36.0 |"
    assert "| +1.0, within the spread |" in lines[4]
    assert lines.count("- a CPU, bfloat16") == 1


def test_one_seed_failed_and_unfinished_runs(tmp_path):
    found = table(tmp_path, {"a": [40.0, None], "b": [43.0, None], "c": ["exit code 1: no memory", None]})
    assert found.spread("AP") is None and found.difference(found.rows[1], "AP") == (3.0, None)
    text = found.markdown()
    assert "| +3.0, one seed |" in text and "| c | failed | failed |" in text
    assert "- c, seed 1: failed: exit code 1: no memory" in text and "- a: seeds not run yet: 2" in text


def test_csv_and_json_hold_the_same(tmp_path):
    found = table(tmp_path, {"a": [40.0, 42.0], "b": [44.0, 48.0], "c": [None, None]})
    rows = list(csv.DictReader(io.StringIO(found.as_csv())))
    assert [row["loss"] for row in rows] == ["a", "b", "c"]
    assert float(rows[1]["AP"]) == 46 and float(rows[1]["difference in AP"]) == 5 and rows[2]["AP"] == ""
    data = json.loads(found.as_json())
    assert data["rows"][1]["values"]["AP"] == [44.0, 48.0] and data["rows"][1]["options"] == {"MODEL.RETINANET.CLS_LOSS": "ohem"}
