"""retina evaluate as people call it."""

import json

import pytest
import torch
from support import BASE, SMALL

from retina_plugin.cli.main import main
from retina_plugin.data.digits import generate_digits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run on a folder of images, three iterations long."""
    folder = tmp_path_factory.mktemp("evaluate")
    generate_digits(folder / "numbers", splits={"train": 4, "val": 3})
    generate_digits(folder / "others", splits={"train": 4, "val": 2}, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = ["SOLVER.MAX_ITER", "3", "TEST.EVAL_PERIOD", "0", "MODEL.WEIGHTS", "", "OUTPUT_DIR", "run"]
        assert main(["train", "--data", "numbers", "--config-file", str(BASE), *map(str, SMALL), *options]) == 0
    return folder


def results(folder):
    return json.loads((folder / "results.json").read_text())["bbox"]


def test_the_checkpoint_is_all_it_needs(trained, monkeypatch, capsys):
    """The dataset is the one of its run, whose card lies beside it."""
    monkeypatch.chdir(trained)
    assert main(["evaluate", "run/model_final.pth", "--device", "cpu"]) == 0
    assert results(trained / "run/eval/model_final") == results(trained / "run")


def test_on_other_images(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    assert main(["evaluate", "run/model_final.pth", "--data", "others", "--set", "TEST.IMS_PER_BATCH=2"]) == 0
    assert "others_val" in capsys.readouterr().out


def test_a_config_beside_plain_weights(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    torch.save({"model": torch.load("run/model_final.pth", weights_only=False)["model"]}, "plain.pth")
    words = ["evaluate", "plain.pth", "--config-file", "run/config.yaml", "--set", "OUTPUT_DIR=plain"]
    assert main(words) == 0
    assert main(["evaluate", "plain.pth"]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("words", [["gone.pth"], ["gone.pth", "--data", "numbers"], ["numbers"], ["run/config.yaml"]])
def test_mistakes_are_one_sentence(trained, words, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    assert main(["evaluate", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
