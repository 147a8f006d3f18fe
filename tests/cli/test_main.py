"""The command line."""

import subprocess
import sys

import pytest

import retina_plugin
from retina_plugin.cli.main import SUBCOMMANDS, main


def test_every_subcommand_explains_itself(capsys):
    shown = {}
    for words in (["--help"], *([name, "--help"] for name in SUBCOMMANDS)):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        shown[words[0]] = capsys.readouterr().out
    assert all(name in shown["--help"] for name in SUBCOMMANDS)
    assert (
        "--size" in shown["ablate"]
        and "--rounds" in shown["bench"]
        and "--precision" in shown["debug"]
        and "--images" in shown["explain-focal"]
    )


def test_version_and_nothing(capsys):
    assert main(["--version"]) == 0 and retina_plugin.__version__ in capsys.readouterr().out
    assert main([]) == 2 and "quickstart" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (["report", "nowhere"], "holds no run"), (["debug", "nowhere"], "holds no dump"), (["bench", "--cases", "nothing"], "no such case"), (["bench", "--rounds", "0"], "--rounds"),
        (["explain-focal", "--checkpoint", "gone.pth"], "gone.pth"), (["explain-focal", "--images", "-1"], "--images"), (["ablate", "gone.yaml"], "gone.yaml"), (["ablate", "."], "does not exist"),
        (["quickstart", "--config-file", "gone.yaml"], "gone.yaml"), (["quickstart", "NO.KEY", "1"], "NO.KEY"), (["quickstart", "SEED"], "pairs"), (["report", "\0"], "error: "),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_exit_code_2(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and "Traceback" not in error


def test_an_unknown_subcommand_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["doktor"])
    assert stop.value.code == 2 and "doktor" in capsys.readouterr().err


def test_it_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "retina_plugin", "doctor"], capture_output=True, text=True)
    assert result.returncode == 0 and "the plugin can work here" in result.stdout
