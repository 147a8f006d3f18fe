"""The picture of a table."""

import dataclasses

import matplotlib.pyplot as plt
import pytest
from support import ROOT

from retina_plugin.ablation import load_sweep
from retina_plugin.ablation.plot import LONGEST_LABEL, draw
from retina_plugin.ablation.table import SweepTable, TableRow

SWEEP = ROOT / "configs/ablations/table_1b.yaml"


@pytest.fixture()
def drawn(monkeypatch):
    """List the figures that are drawn in a test, and keep them open."""
    figures = []
    monkeypatch.setattr("retina_plugin.ablation.plot.plt.close", figures.append)
    yield figures
    monkeypatch.undo()
    for figure in figures:
        plt.close(figure)


def marks(axes, marker):
    """Return the points (x, y) that have a marker."""
    lines = [line for line in axes.get_lines() if line.get_marker() == marker]
    return [point for line in lines for point in zip(*line.get_data(), strict=True)]


def test_rows_with_and_without_results_next_to_the_papers(tmp_path, drawn):
    sweep = load_sweep(SWEEP)
    some = TableRow(("0",), {"AP": [30.0, 32.0]}, 1000, 1.0, 1.0, {}, [])
    failed = TableRow(("0.1",), {}, None, None, None, {1: "no memory"}, [])
    others = [TableRow(labels, {"AP": [33.0]}, 1000, 1.0, 1.0, {}, [2]) for labels in sweep.rows[2:]]
    draw(SweepTable(sweep, [some, failed, *others], []), tmp_path / "table.png")
    ours, paper = drawn[0].axes
    rest = [(33.0, i) for i in range(2, len(sweep.rows))]
    assert marks(ours, "o") == [(30.0, 0), (32.0, 0), *rest] and marks(ours, "|") == [(31.0, 0), *rest]
    assert [text.get_text() for text in ours.texts] == ["failed"]
    assert marks(paper, "|") == [(sweep.paper[", ".join(row)]["AP"], i) for i, row in enumerate(sweep.rows)]
    image = plt.imread(tmp_path / "table.png")[..., :3]
    orange = (abs(image - (213 / 255, 94 / 255, 0)) < 0.12).all(-1)
    assert orange[:, : image.shape[1] // 2].sum() == 0 and orange[:, image.shape[1] // 2 :].sum() > 50


@pytest.mark.parametrize("text", [r"$\frac{$", "$", "<b> | ", "a\nb", "long " * 60])
@pytest.mark.parametrize("values", [[], [31.0], [31.0, 31.0]])
def test_any_name_and_equal_or_no_values(tmp_path, drawn, text, values):
    sweep = dataclasses.replace(load_sweep(SWEEP), title=text)
    names = [(text,) if i == 1 else labels for i, labels in enumerate(sweep.rows)]
    rows = [TableRow(name, {"AP": values} if values else {}, 1, 1.0, 1.0, {}, [1]) for name in names]
    draw(SweepTable(sweep, rows, []), tmp_path / "table.png")
    ours = drawn[0].axes[0]
    assert len(ours.get_yticklabels()) == len(rows) and len(ours.get_yticklabels()[1].get_text()) <= LONGEST_LABEL
    assert len(marks(ours, "o")) == len(values) * len(rows)
    assert [text.get_text() for text in ours.texts] == ([] if values else ["not run"] * len(rows))
    height, width = plt.imread(tmp_path / "table.png").shape[:2]
    inches = (10, 1.7 + 0.34 * len(rows))  # at 110 dpi; there are values of the paper
    assert (width, height) == (round(110 * inches[0]), int(110 * inches[1]))


def test_axis_has_a_label_and_plain_numbers(tmp_path, drawn):
    sweep = load_sweep(SWEEP)
    values = [{"AP": [31.0001 + i / 1e4]} for i in range(len(sweep.rows))]
    rows = [TableRow(labels, x, 1, 1.0, 1.0, {}, []) for labels, x in zip(sweep.rows, values, strict=True)]
    draw(SweepTable(sweep, rows, []), tmp_path / "t.png")
    for axes in drawn[0].axes:
        assert axes.get_xlabel() == "AP, %" and len([text for text in axes.get_xticklabels() if text.get_text()]) >= 2
        assert axes.xaxis.get_major_formatter().get_offset() == ""
