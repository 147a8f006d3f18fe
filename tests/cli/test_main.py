"""The command line."""

import subprocess
import sys

import pytest

from retina_plugin.cli.main import SUBCOMMANDS, main


def test_every_subcommand_explains_itself(capsys):
    for words in (["--help"], *([name, "--help"] for name in SUBCOMMANDS)):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
    assert "doctor" in capsys.readouterr().out


def test_an_unknown_subcommand_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["doktor"])
    assert stop.value.code == 2 and "doktor" in capsys.readouterr().err


def test_it_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "retina_plugin", "doctor"], capture_output=True, text=True)
    assert result.returncode == 0 and "the plugin can work here" in result.stdout
