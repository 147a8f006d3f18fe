"""Flags anywhere, short forms, and one sentence for what is wrong."""

import pytest

from retina_plugin.arguments import (
    Parser,
    add_set_option,
    argument_parser,
    check_arguments,
    options_of_short_forms,
    set_options_as_pairs,
)


def parse(line):
    return argument_parser().parse_args(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "--config-file x.yaml --resume SEED 3",
        "SEED 3 --config-file x.yaml --resume",
        "--config-file x.yaml SEED 3 --resume",
        "--resume SEED 3 --config-file=x.yaml",
        "SEED --resume 3 --config-file x.yaml",
    ],
)
def test_flags_stand_anywhere(line):
    args = parse(line)
    assert args.resume and args.config_file == "x.yaml" and args.opts == ["SEED", "3"]


@pytest.mark.parametrize("value", ["-1", "-1e-3", "()", "('a','b')", "[1,2]", "-.5", "", "a=b"])
def test_values_of_all_kinds_pass(value):
    args = argument_parser().parse_args(["--data", "f", "KEY", value, "--resume"])
    assert args.opts == ["KEY", value] and args.resume


@pytest.mark.parametrize(
    "line, opts",
    [
        ("--epochs 5", "SOLVER.EPOCHS 5"),
        ("--batch 4", "SOLVER.IMS_PER_BATCH 4"),
        ("--lr 0.01", "SOLVER.BASE_LR 0.01"),
        ("--lr 1e-4", "SOLVER.BASE_LR 0.0001"),
        ("--device cpu", "MODEL.DEVICE cpu"),
        ("--name pets", "OUTPUT_DIR output/pets"),
        (
            "--size 300",
            "INPUT.MIN_SIZE_TRAIN (300,) INPUT.MAX_SIZE_TRAIN 400 INPUT.MIN_SIZE_TEST 300 INPUT.MAX_SIZE_TEST 400",
        ),
        ("", ""),
    ],
)
def test_short_forms_are_keys(line, opts):
    assert options_of_short_forms(parse(line)) == opts.split()


@pytest.mark.parametrize(
    "line, said",
    [
        ("--eval-onyl", "did you mean --eval-only?"),
        ("--num-gpus x", "invalid int value"),
        ("--batch 0", "whole number above 0"),
        ("--epochs -1", "above 0"),
        ("--lr inf", "above 0"),
        ("--lr nan", "above 0"),
        ("--size 3.5", "whole number"),
        ("--name ../x", "name of a folder"),
        ("--name .", "name of a folder"),
        ("--config-file", "expected one argument"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(line, said, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(line)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("error: ") and said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "line, said",
    [
        ("--data f --num-gpus -3", "--num-gpus must be at least 0; got -3"),
        ("--data f --num-machines 0", "--num-machines"),
        ("--data f --machine-rank 1", "--machine-rank"),
        ("--data f --num-machines 2 --machine-rank 2", "from 0 to 1"),
        ("--data f --resume --overwrite", "give one of them"),
        ("", "say what to train on"),
        ("SEED 3", "--data FOLDER"),
    ],
)
def test_options_that_do_not_fit_are_named(line, said):
    with pytest.raises(ValueError, match=said):
        check_arguments(parse(line))


def test_help_shows_examples_with_data():
    text = argument_parser().format_help()
    assert "--data FOLDER --epochs 50" in text and "75 stopped by a signal" in text


@pytest.mark.parametrize(
    "words, expected",
    [
        (["x", "--set", "SEED=3"], ["SEED", "3"]),
        (["--set", "SEED=3", "x"], ["SEED", "3"]),
        (["--set", "MODEL.WEIGHTS=a=b", "--set", "SEED=", "x"], ["MODEL.WEIGHTS", "a=b", "SEED", ""]),
        (
            ["x", "--set", "SEED", "3", "MODEL.WEIGHTS", "a.pth"],
            ["SEED", "3", "MODEL.WEIGHTS", "a.pth"],
        ),  # as before 0.2
        (["--set", "SEED", "3", "x"], ["SEED", "3"]),  # the former spelling swallowed what follows
    ],
)
def test_overrides_beside_a_positional_argument(words, expected):
    parser = Parser()
    parser.add_argument("file")
    add_set_option(parser)
    args = parser.parse_args(words)
    assert args.set == expected and args.file == "x"


@pytest.mark.parametrize(
    "words", [["x", "--set", "SEED"], ["x", "--set"], ["x", "--set", "seed=1"], ["x", "--set", "=1"]]
)
def test_an_override_without_key_or_value_is_one_sentence(words, capsys):
    parser = Parser()
    parser.add_argument("file")
    add_set_option(parser)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(words)
    assert stop.value.code == 2 and "error: " in capsys.readouterr().err


def test_the_former_spelling_is_warned_of():
    with pytest.warns(DeprecationWarning, match="now --set KEY=VALUE"):
        set_options_as_pairs(["--set", "SEED", "1"])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--config-file", "x.yaml", "--minutes", "3"], "--minutes is for a training that is planned"),
        (["--data", "x", "--no-plan", "--minutes", "3"], "--minutes is for a training that is planned"),
        (["--data", "x", "--epochs", "2", "--minutes", "3"], "give one of them"),
    ],
)
def test_minutes_are_for_plans(words, text):
    with pytest.raises(ValueError, match=text):
        check_arguments(argument_parser().parse_args(words))
