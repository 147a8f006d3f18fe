"""The command line."""

import argparse
import re
import shlex
import subprocess
import sys

import pytest

import retina_plugin
from retina_plugin.cli.main import SUBCOMMANDS, main, parser_of


def actions_of(parser):
    """Every option and argument of a parser and of its subparsers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from ((sub, x) for x in sub._actions)
        yield parser, action


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_shows_every_option_with_its_default_and_an_example(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # no line of help is broken
    parser = parser_of(name)
    shown = {id(owner): " ".join(owner.format_help().split()) for owner, _ in actions_of(parser)}
    for owner, action in actions_of(parser):
        text = shown[id(owner)]
        if isinstance(action, argparse._SubParsersAction):
            assert all(name in text for name in action.choices)
            continue
        assert action.help, f"{action.dest} has no help"
        for word in action.option_strings:
            assert word in text
        if action.option_strings and action.default not in (None, "", False, [], argparse.SUPPRESS):
            assert f"(default: {action.default})" in text or "default" in action.help, (
                f"{action.dest}: {action.default}"
            )
        if not isinstance(action, argparse._HelpAction):
            assert " ".join((action.help % {"default": action.default}).split()) in text
    for owner, _ in actions_of(parser):
        assert f"retina {name}" in owner.epilog, "an example"


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_example_of_a_subcommand_is_one_that_it_takes(name):
    """Each line of the examples is parsed, not run."""
    parser = parser_of(name)
    lines = [line.strip() for owner, _ in actions_of(parser) for line in owner.epilog.splitlines()]
    commands = [re.split(r"\s{3,}|;", line)[0] for line in lines if line.startswith(f"retina {name}")]
    assert commands
    for command in commands:
        parser.parse_args(shlex.split(command)[2:])


def test_the_list_of_subcommands_is_quick_to_come():
    """`retina --help` imports neither torch nor Detectron2, which take seconds."""
    program = """
import sys
sys.argv, sys.orig_argv = ["-m"], ["python", "-m", "retina_plugin"]
from retina_plugin.cli.main import main
try:
    main(["--help"])
except SystemExit:
    print(sorted({"torch", "detectron2", "numpy", "cv2"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert all(f"    {name} " in result.stdout for name in SUBCOMMANDS)
    assert "exit codes: 0 success" in result.stdout


def test_version_and_nothing(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and retina_plugin.__version__ in capsys.readouterr().out
    assert main([]) == 2 and "quickstart" in capsys.readouterr().err


@pytest.mark.parametrize("shell, sign", [("bash", "-F _shtab_retina retina"), ("zsh", "#compdef retina")])
def test_completion_knows_every_subcommand(shell, sign, capsys):
    pytest.importorskip("shtab")
    assert main(["--print-completion", shell]) == 0
    script = capsys.readouterr().out
    assert sign in script and "--cpus-per-run" in script and all(name in script for name in SUBCOMMANDS)
    assert main(["--print-completion", "fish_and_chips"]) == 2


@pytest.mark.parametrize(
    "words, said",
    [
        ("report nowhere", "holds no run"),
        ("report \0", "error: "),
        ("debug nowhere", "holds no dump"),
        ("bench --cases nothing", "nothing"),
        ("bench --rounds 0", "--rounds"),
        ("explain-focal --checkpoint gone.pth", "gone.pth"),
        ("explain-focal --images -1", "--images"),
        ("ablate gone.yaml", "gone.yaml"),
        ("ablate .", "does not exist"),
        ("quickstart --config-file gone.yaml", "gone.yaml"),
        ("quickstart NO.KEY 1", "NO.KEY"),
        ("quickstart SEED", "pairs"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(words.split(" ")) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and "Traceback" not in error


def test_an_unknown_subcommand_is_refused(capsys):
    assert main(["doktor"]) == 2
    assert capsys.readouterr().err == "error: 'doktor' is not a subcommand; did you mean doctor?\n"
    assert main(["xyzzy", "x"]) == 2
    assert "there are train, evaluate" in capsys.readouterr().err


@pytest.mark.slow
def test_it_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "retina_plugin", "doctor"], capture_output=True, text=True)
    assert result.returncode == 0 and "the plugin can work here" in result.stdout
