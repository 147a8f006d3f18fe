"""The picture of a table."""

import dataclasses

import cv2
import pytest
from conftest import ROOT

from retina_plugin.ablation import load_sweep
from retina_plugin.ablation.plot import draw
from retina_plugin.ablation.table import SweepTable, TableRow


def test_rows_with_and_without_results_and_the_papers_beside_them(tmp_path):
    sweep = load_sweep(ROOT / "configs/ablations/table_1b.yaml")
    some = TableRow(("0",), {"AP": [30.0, 32.0]}, 1000, 1.0, 1.0, {}, [])
    failed = TableRow(("0.1",), {}, None, None, None, {1: "no memory"}, [])
    others = [TableRow(labels, {"AP": [33.0]}, 1000, 1.0, 1.0, {}, [2]) for labels in sweep.rows[2:]]
    draw(SweepTable(sweep, [some, failed, *others], []), tmp_path / "table.png")
    image = cv2.imread(str(tmp_path / "table.png"))
    orange = (abs(image.astype(int) - (0, 94, 213)) < 30).all(-1)
    assert orange.sum() > 50, "the paper's figures"


@pytest.mark.parametrize("text", [r"$\frac{$", "$", "<b> | ", "a\nb", "long " * 60])
@pytest.mark.parametrize("values", [[], [31.0], [31.0, 31.0]])
def test_any_name_and_equal_or_no_values(tmp_path, text, values):
    sweep = dataclasses.replace(load_sweep(ROOT / "configs/ablations/table_1b.yaml"), title=text)
    rows = [
        TableRow((text,) if i == 1 else labels, {"AP": values} if values else {}, 1, 1.0, 1.0, {}, [1])
        for i, labels in enumerate(sweep.rows)
    ]
    draw(SweepTable(sweep, rows, []), tmp_path / "table.png")
    height, width = cv2.imread(str(tmp_path / "table.png")).shape[:2]
    assert 300 < height < 800 and 700 < width < 1200


def test_the_axis_has_a_name_and_plain_numbers(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr("retina_plugin.ablation.plot.plt.close", kept.append)
    sweep = load_sweep(ROOT / "configs/ablations/table_1b.yaml")
    draw(
        SweepTable(
            sweep,
            [TableRow(labels, {"AP": [31.0001 + i / 1e4]}, 1, 1.0, 1.0, {}, []) for i, labels in enumerate(sweep.rows)],
            [],
        ),
        tmp_path / "t.png",
    )
    for axes in kept[0].axes:
        assert axes.get_xlabel() == "AP, %" and len([text for text in axes.get_xticklabels() if text.get_text()]) >= 2
        assert axes.xaxis.get_major_formatter().get_offset() == ""
