"""Means, spreads and differences of a sweep, worked by hand."""

import csv
import io
import json
import math

import pytest
from support import ROOT

from retina_plugin.ablation import collect, load_sweep

SWEEP = f"""
title: three losses
base: {ROOT / "configs/ablations/digits.yaml"}
seeds: [1, 2]
axes: {{loss: {{a: {{}}, b: {{MODEL.RETINANET.CLS_LOSS: ohem}}, c: {{MODEL.RETINANET.CLS_LOSS: cross_entropy}}}}}}
report: [AP, AP50]
paper: {{b: {{AP: 36.0}}}}
"""
COST = {"images_per_second": 40.0, "peak_memory_mib": 900.0, "parameters": 3_500_000}
SUMMARY = {**COST, "machine": "a CPU", "precision": "bfloat16"}


def table(tmp_path, values, **kwargs):
    """Return the table of label -> one AP per seed; None stands for not run, a string for failed."""
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
            (folder / "summary.json").write_text(json.dumps({"results": {"bbox": box}, **SUMMARY}))
    return collect(sweep, folders)


def test_mean_spread_and_difference(tmp_path):
    found = table(tmp_path, {"a": [40.0, 42.0], "b": [44.0, 48.0], "c": [41.0, 43.0]})
    a = found.rows[0]
    assert a.mean("AP") == 41 and a.sd("AP") == pytest.approx(math.sqrt(2))
    # Pooled: variances 2, 8, 2 with one degree of freedom each.
    assert found.spread("AP") == (pytest.approx(2.0), 3)
    # t of b: 5 / (2 * sqrt(1/2 + 1/2)) = 2.5 with 3 degrees of freedom: p = 0.0877 alone, 0.175 as one of two rows.
    assert found.differences("AP")[("b",)] == (5.0, pytest.approx(0.0877, abs=1e-4), pytest.approx(0.1754, abs=1e-4))
    assert found.differences("AP")[("c",)].value == 1.0 and found.differences("AP")[("c",)].is_one is False
    assert ("a",) not in found.differences("AP")
    lines = found.markdown().splitlines()
    assert lines[2] == "| a | 41.0 ± 1.4 | 82.0 ± 2.8 | base |  | 3.50 | 40.0 | 900 |  |"
    assert lines[3] == "| b | 46.0 ± 2.8 | 92.0 ± 5.7 | +5.0, within the spread | 0.18 | 3.50 | 40.0 | 900 | 36.0 |"
    assert "| +1.0, within the spread |" in lines[4]
    assert lines.count("- a CPU, bfloat16") == 1
    assert "- mean ± standard deviation over seeds 1, 2; Δ is relative to the row a" in lines
    assert any(line.startswith("- the spread of AP over seeds is 2.00 (standard deviation, pooled") for line in lines)


def test_single_seeds_failed_and_unfinished_runs(tmp_path):
    found = table(tmp_path, {"a": [40.0, None], "b": [43.0, None], "c": ["exit code 1: no memory", None]})
    assert found.spread("AP") is None and found.differences("AP")[("b",)] == (3.0, None, None)
    text = found.markdown()
    assert "| +3.0, no spread known |" in text and "| c | failed | failed |" in text
    assert "- c, seed 1: failed: exit code 1: no memory" in text and "- a: seeds not run yet: 2" in text


def test_missing_metric_nan_failed_and_not_run_are_distinguished(tmp_path):
    found = table(tmp_path, {"a": [40.0, 42.0], "b": [math.nan, math.nan], "c": [None, None]})
    text = found.markdown()
    assert "| b | nan | nan |" in text and "| c | not run | not run |" in text and "| c | failed" not in text
    assert found.differences("AP") == {}
    summary = {**SUMMARY, "results": {"bbox": {"AP50": 3.0}}, "images_per_second": None}
    (tmp_path / "loss=c,seed=1/summary.json").write_text(json.dumps(summary))
    found = collect(found.sweep, [tmp_path / run.name(("loss",)) for run in found.sweep.runs])
    assert "| c | no such metric | 3.0 |" in found.markdown()


def test_nan_of_one_seed_is_counted_and_left_out_of_the_mean(tmp_path):
    found = table(tmp_path, {"a": [40.0, 42.0], "b": [44.0, math.nan], "c": [41.0, 43.0]})
    assert "| b | 44.0, 1 nan |" in found.markdown()
    assert json.loads(found.as_json())["rows"][1]["nan"] == {"AP": 1, "AP50": 1}


def test_markdown_csv_and_json_agree(tmp_path):
    found = table(tmp_path, {"a": [40.0, 42.0], "b": [60.0, 64.0], "c": [math.nan, 43.0]})
    data, rows = json.loads(found.as_json()), list(csv.DictReader(io.StringIO(found.as_csv())))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.markdown().splitlines()[2:5]]
    for row, line, cell in zip(data["rows"], rows, cells, strict=True):
        assert row["labels"] == [line["loss"]] == [cell[0]]
        values, difference = row["values"]["AP"], row["difference"]
        mean = sum(values) / len(values)
        assert float(line["AP"]) == mean and cell[1].startswith(f"{mean:.1f}") and int(line["seeds"]) == len(values)
        if difference is None:
            assert line["difference in AP"] == line["p"] == "" and cell[3] == "base"
        else:
            assert float(line["difference in AP"]) == difference["value"]
            assert float(line["p by Holm"]) == difference["p_holm"]
            assert cell[3].startswith(f"{difference['value']:+.1f}")
            assert float(cell[4].strip("< ")) == pytest.approx(difference["p_holm"], abs=5e-3)
        assert float(line["parameters"]) == row["parameters"]
        assert float(line["images per second"]) == row["images_per_second"]
    assert data["compared"]["spread"]["sd"] == found.spread("AP").sd


def test_csv_and_json_of_rows_that_were_not_run(tmp_path):
    found = table(tmp_path, {"a": [40.0, 42.0], "b": [44.0, 48.0], "c": [None, None]})
    rows = list(csv.DictReader(io.StringIO(found.as_csv())))
    assert [row["loss"] for row in rows] == ["a", "b", "c"]
    assert float(rows[1]["AP"]) == 46 and float(rows[1]["difference in AP"]) == 5 and rows[2]["AP"] == ""
    data = json.loads(found.as_json())
    assert data["rows"][1]["values"]["AP"] == [44.0, 48.0]
    assert data["rows"][1]["options"] == {"MODEL.RETINANET.CLS_LOSS": "ohem"}
