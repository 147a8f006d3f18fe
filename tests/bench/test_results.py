"""Table, JSON and plot."""

import json

import matplotlib.pyplot as plt
import pytest

from retina_plugin.bench.results import Row, plot, table, write
from retina_plugin.hardware import describe_hardware

ROWS = [
    Row("work", "some work", "theirs", [2.0, 2.2, 2.1], 300 * 2**20),
    Row("work", "some work", "ours", [0.7, 0.7, 0.7]),
    Row("other", "more", "theirs", [0.01]),
]


def test_ratios_are_relative_to_the_first_implementation_of_the_case():
    lines = table(ROWS, ["a note"]).splitlines()
    assert lines[0] == "| | implementation | time | times faster | extra memory |"
    assert lines[2] == "| some work | theirs | 2.10 s ± 50 ms | 1 | 300 MiB |"
    assert lines[3] == "|  | ours | 700 ms ± 0 ms | **3.00** |  |"
    assert lines[4] == "| more | theirs | 10 ms ± 0 ms | 1 |  |"
    assert lines[-1] == "- a note"


def test_table_and_rows_are_written(tmp_path):
    text = write(ROWS, [], tmp_path / "new")
    assert (tmp_path / "new/bench.md").read_text() == text
    data = json.loads((tmp_path / "new/bench.json").read_text())
    assert data["rows"][0]["seconds"] == [2.0, 2.2, 2.1] and data["machine"] == describe_hardware()
    assert data["rows"][1]["implementation"] == "ours" and data["rows"][1]["extra_bytes"] is None


def test_plot_has_a_bar_per_implementation_as_long_as_its_ratio(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    plot(ROWS, tmp_path / "bench.png")
    monkeypatch.undo()
    (axes,) = figures[0].axes
    plt.close(figures[0])
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([1, 3, 1])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["work: theirs", "work: ours", "other: theirs"]
    assert [text.get_text() for text in axes.texts] == [" 1.0", " 3.0", " 1.0"]
    grey, blue, other = (bar.get_facecolor() for bar in axes.patches)
    assert grey == other != blue, "references are grey"
    image = plt.imread(tmp_path / "bench.png")[..., :3]
    drawn = {tuple(colour[:3]): (abs(image - colour[:3]) < 0.02).all(-1).sum() for colour in (grey, blue)}
    assert drawn[blue[:3]] > 2000 and drawn[grey[:3]] > 2000
