"""The command: a case by name, what it writes, and a wrong name."""

import pytest

from retina_plugin.cli.main import main


@pytest.mark.slow
def test_one_case_is_measured_and_written(tmp_path, capsys):
    assert main(["bench", "--cases", "mapper", "--rounds", "2", "--no-memory", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "mapper, JPEG" in printed and "| Detectron2 |" in printed and "| plugin |" in printed
    assert {"bench.json", "bench.md", "bench.png"} <= {file.name for file in tmp_path.iterdir()}


def test_an_unknown_case_is_named(capsys):
    assert main(["bench", "--cases", "maper"]) == 2
    assert "no such case: maper; known: train_step" in capsys.readouterr().err
