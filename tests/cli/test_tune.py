"""``retina tune``: a search from the command line."""

import json

import pytest
from support import BASE, TINY

from retina_plugin.ablation import tuning
from retina_plugin.cli.main import main

pytest.importorskip("optuna")

SET = [word for key, value in zip(TINY[0::2], TINY[1::2], strict=True) for word in ("--set", f"{key}={value}")]


@pytest.fixture(autouse=True)
def no_training(monkeypatch, tmp_path):
    def pretend(folder):
        rate = json.loads((folder / "values.json").read_text())["SOLVER.BASE_LR"]
        (folder / "summary.json").write_text(json.dumps({"results": {"bbox": {"AP": 1e4 * rate, "AP50": 3.0}}}))

    monkeypatch.setattr(tuning.tune, "__kwdefaults__", {**tuning.tune.__kwdefaults__, "train": pretend})
    monkeypatch.chdir(tmp_path)


def test_trials_are_ranked_and_the_best_is_written(capsys, tmp_path):
    assert main(["tune", str(BASE), "--trials", "3", "--output", "found", *SET, "--set", "SOLVER.BASE_LR=0.002"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "the best, to train with: found/best.yaml"
    scores = [float(line.split("bbox/AP ")[1].split(",")[0]) for line in lines[-4:-1]]
    assert scores == sorted(scores, reverse=True) and (tmp_path / "found/best.yaml").is_file()
    rates = [float(line.split("SOLVER.BASE_LR ")[1].split(",")[0]) for line in lines[-4:-1]]
    assert all(0.0005 <= rate <= 0.008 for rate in rates), "a quarter to four times the rate that was given"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "give a number of trials or minutes"),
        (["--trials", "0"], "--trials must be above 0"),
        (["--trials", "1", "--space", "gone.yaml"], "gone.yaml"),
    ],
)
def test_mistakes_are_named(words, text, capsys):
    assert main(["tune", str(BASE), *SET, *words]) == 2
    assert text in capsys.readouterr().err
