"""``retina plan``: prints a plan and writes it as a config."""

import json

import pytest

from retina_plugin import load_config
from retina_plugin.cli.main import main
from retina_plugin.data.digits import generate_digits


@pytest.fixture()
def numbers(tmp_path, monkeypatch):
    generate_digits(tmp_path / "numbers", splits={"train": 20, "val": 4, "test": 2})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_plan_is_printed_and_written(numbers, capsys):
    words = ["--epochs", "7", "--set", "SOLVER.BASE_LR=0.002", "--output", "plan.yaml", "--json", "plan.json"]
    assert main(["plan", "numbers", *words]) == 0
    out = capsys.readouterr().out
    assert "20 images" in out and "input size" in out and "retina train --config-file plan.yaml" in out
    cfg = load_config("plan.yaml")
    assert cfg.DATASETS.TRAIN == ("numbers_train",) and cfg.DATASETS.FINAL_TEST == ("numbers_test",)
    assert pytest.approx(0.002) == cfg.SOLVER.BASE_LR * 8 / cfg.SOLVER.IMS_PER_BATCH
    assert round(7 * 20 / cfg.SOLVER.IMS_PER_BATCH) == cfg.SOLVER.MAX_ITER
    assert json.loads((numbers / "plan.json").read_text())["facts"]["images"] == 20


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--minutes", "0"], "--minutes must be above 0"),
        (["--minutes", "1", "--epochs", "2"], "both say how long to train"),
        (["--set", "SOLVER.BASE_LT=1"], "SOLVER.BASE_LT"),
    ],
)
def test_mistakes_are_named(numbers, words, text, capsys):
    assert main(["plan", "numbers", *words]) == 2
    assert text in capsys.readouterr().err


def test_what_is_no_dataset_is_refused(numbers, capsys):
    assert main(["plan", "gone"]) == 2
    assert "gone does not exist" in capsys.readouterr().err


def test_a_card_elsewhere_is_named_in_the_command(numbers, capsys):
    main(["data", "convert", "numbers", "--to", "coco", "--output", "other"])
    capsys.readouterr()
    assert main(["plan", "other", "--epochs", "2", "--output", "plan.yaml"]) == 0
    assert "to train: retina train --data other --config-file plan.yaml" in capsys.readouterr().out
