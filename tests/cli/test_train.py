"""retina train as people call it."""

import pytest

from retina_plugin.arguments import argument_parser
from retina_plugin.cli import train
from retina_plugin.cli.main import main, parser_of


def test_it_takes_what_train_net_takes():
    words = ["--data", "pets", "--epochs", "3", "SOLVER.BASE_LR", "0.1", "--name", "x"]
    assert parser_of("train").parse_args(words) == argument_parser().parse_args(words)
    assert "retina train --data FOLDER" in parser_of("train").format_help()
    assert "train_net.py --data" not in parser_of("train").format_help().split("torchrun")[0]


def test_it_trains_with_the_arguments(monkeypatch):
    given = []
    monkeypatch.setattr("retina_plugin.engine.run", given.append)
    assert main(["train", "--data", "pets", "SEED", "3"]) == 0
    assert given[0].data == "pets" and given[0].opts == ["SEED", "3"]


@pytest.mark.parametrize("words", [[], ["--resume", "--overwrite", "--data", "x"], ["--config-file", "gone.yaml"]])
def test_mistakes_are_one_sentence(words, capsys):
    assert main(["train", *words]) == 2
    assert "error: " in capsys.readouterr().err
    assert train.__doc__
