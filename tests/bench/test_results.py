"""Table, JSON and plot."""

import json

import cv2

from retina_plugin.bench.results import Row, table, write
from retina_plugin.hardware import describe_hardware

ROWS = [
    Row("work", "some work", "theirs", [2.0, 2.2, 2.1], 300 * 2**20),
    Row("work", "some work", "ours", [0.7, 0.7, 0.7]),
    Row("other", "more", "theirs", [0.01]),
]


def test_ratios_are_to_the_first_side_of_the_case():
    lines = table(ROWS, ["a note"]).splitlines()
    assert lines[2] == "| some work | theirs | 2.10 s ± 50 ms | 1 | 300 MiB |"
    assert lines[3] == "|  | ours | 700 ms ± 0 ms | **3.00** |  |"
    assert lines[4] == "| more | theirs | 10 ms ± 0 ms | 1 |  |"
    assert lines[-1] == "- a note"


def test_what_is_written(tmp_path):
    text = write(ROWS, [], tmp_path / "new")
    assert (tmp_path / "new/bench.md").read_text() == text
    data = json.loads((tmp_path / "new/bench.json").read_text())
    assert data["rows"][0]["seconds"] == [2.0, 2.2, 2.1] and data["machine"] == describe_hardware()
    assert cv2.imread(str(tmp_path / "new/bench.png")).shape[1] > 500
