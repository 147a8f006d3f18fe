"""Sweep files: their rows and runs, and the errors for invalid ones."""

import pytest
from support import ROOT

from retina_plugin.ablation import load_sweep

DIGITS = f"base: {ROOT / 'configs/ablations/digits.yaml'}\n"
GAMMA = "axes: {gamma: {'0': {MODEL.RETINANET.FOCAL_LOSS_GAMMA: 0.0}, '2': {}}}\n"


def sweep(tmp_path, text, **kwargs):
    (tmp_path / "mine.yaml").write_text(text)
    return load_sweep(tmp_path / "mine.yaml", **kwargs)


def test_rows_are_all_combinations_and_runs_go_seed_by_seed(tmp_path):
    loss = "loss: {ce: {MODEL.RETINANET.CLS_LOSS: cross_entropy}, fl: {}}"
    found = sweep(tmp_path, f"{DIGITS}seeds: [3, 4]\naxes:\n  MODEL.FPN.OUT_CHANNELS: [32, 64]\n  {loss}\n")
    assert found.rows == [("32", "ce"), ("32", "fl"), ("64", "ce"), ("64", "fl")]
    assert found.compare_to == ("32", "ce")
    assert [run.seed for run in found.runs] == [3] * 4 + [4] * 4
    assert found.runs[0].options == {
        "MODEL.FPN.OUT_CHANNELS": 32,
        "MODEL.RETINANET.CLS_LOSS": "cross_entropy",
        "SEED": 3,
    }
    assert found.runs[0].name(tuple(found.axes)) == "OUT_CHANNELS=32,loss=ce,seed=3"
    assert found.config(found.runs[7], tmp_path).SEED == 4
    assert found.name == "mine"


def test_keys_of_a_size_replace_those_above(tmp_path):
    base = ROOT / "configs/ablations/digits.yaml"
    sizes = [f"small: {{base: {base}, seeds: [1, 2]}}", f"large: {{base: {base}, compare_to: {{gamma: '2'}}}}"]
    text = "\n  ".join([f"{GAMMA}seeds: [1]\nsizes:", *sizes])
    small, large = sweep(tmp_path, text), sweep(tmp_path, text, size="large")
    assert (small.name, small.seeds, small.compare_to) == ("mine-small", (1, 2), ("0",))
    assert (large.name, large.seeds, large.compare_to) == ("mine-large", (1,), ("2",))
    with pytest.raises(ValueError, match="no size 'huge'; it has small, large"):
        sweep(tmp_path, text, size="huge")


@pytest.mark.parametrize(
    "text, message",
    [
        ("- 1\n", "got list"),
        (DIGITS, "axes missing"),
        (GAMMA, "base missing"),
        (DIGITS + GAMMA + "sedes: [1]\n", "unknown keys sedes; a sweep has title, base"),
        (DIGITS + GAMMA + "0.5: 1\n", "unknown keys 0.5; a sweep has"),
        (DIGITS + "axes: {gamma: 3}\n", "the axis gamma must be"),
        (DIGITS + "axes: {gamma: [[]]}\ncompare_to: {gamma: '7'}\n", "compare_to names the row '7'"),
        (DIGITS + GAMMA + "paper: {'3': {AP: 1.0}}\n", "paper has values for"),
        (DIGITS + GAMMA + "paper: {'2': {AP: high}}\n", "paper must be row labels"),
        (DIGITS + GAMMA + "compare_to: {gama: '2'}\n", "compare_to names the axis 'gama'; there are gamma"),
        (DIGITS + "axes: {SEED: [1, 1]}\n", "the axis SEED has the value 1 more than once"),
        (DIGITS + "axes: {MODEL.FPN.OUT_CHANNELS: [32, '32']}\n", "has the value 32 more than once"),
    ],
)
def test_invalid_file_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        sweep(tmp_path, text)


def test_name_of_a_size_becomes_part_of_a_folders_name(tmp_path):
    with pytest.raises(ValueError, match="the size 'a/b' becomes part of a folder's name, so it must consist of"):
        sweep(tmp_path, DIGITS + GAMMA + "sizes: {a/b: {seeds: [1]}}\n")
    with pytest.raises(ValueError, match="sizes must be names with keys below each"):
        sweep(tmp_path, DIGITS + GAMMA + "sizes: [small]\n")


def test_missing_files_are_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        load_sweep("nowhere.yaml")
    with pytest.raises(FileNotFoundError, match="base config 'none.yaml'"):
        sweep(tmp_path, "base: none.yaml\n" + GAMMA)


INVALID_ROWS = """axes:
  x:
    a: {MODEL.RETINANET.FOCAL_LOS_GAMMA: 1}
    b: {MODEL.RETINANET.NUM_CLASSES: 3}
    c: {}
    d: {INPUT.COLOR_JITTER: 0.0}
    e: {}
    'e!': {INPUT.COLOR_JITTER: 0.1}
    'e?': {INPUT.COLOR_JITTER: 0.2}
"""


def test_all_invalid_runs_are_reported_before_the_first_starts(tmp_path):
    with pytest.raises(ValueError) as error:
        sweep(tmp_path, DIGITS + INVALID_ROWS).check()
    message = str(error.value)
    assert "x=a,seed=1" in message and "did you mean MODEL.RETINANET.FOCAL_LOSS_GAMMA?" in message
    assert "x=b,seed=1" in message and "has 10 classes" in message
    assert "the rows 'c' and 'd' have the same config" in message and "the rows 'd' and 'e' have the same" in message
    assert "two runs have the folder x=e_,seed=1" in message


def test_selected_rows_are_run_together_with_the_one_compared_to():
    sweep = load_sweep(ROOT / "configs/ablations/table_1d.yaml", only=["1:3", "512, 0.7"])
    ohem = ["OHEM, 512, 0.7", "OHEM 1:3, 128, 0.5", "OHEM 1:3, 256, 0.5", "OHEM 1:3, 512, 0.5"]
    assert [", ".join(row) for row in sweep.rows] == [*ohem, "focal"]
    assert len(sweep.runs) == 10 and load_sweep(ROOT / "configs/ablations/table_1d.yaml").only == ()
    with pytest.raises(ValueError, match="no row has '1:4' in its labels; there are"):
        load_sweep(ROOT / "configs/ablations/table_1d.yaml", only=["1:3", "1:4"])


JITTER = "axes: {INPUT.COLOR_JITTER: [0.0, 0.1]}"
TWO_AXES = "axes: {INPUT.COLOR_JITTER: [0.0, 0.1], jitter: {on: {INPUT.COLOR_JITTER: 0.3}, off: {}}}"
VOC = "options: {TEST.EVALUATOR: voc, TEST.BEST_METRIC: bbox/AP50}"
MISTAKES = [
    ("axes: {SEED: [1, 2]}", "SEED is set by SEED, but the sweep sets it: list the seeds under seeds"),
    ("axes: {a: {x: {SEED: 3}, y: {}}}", "SEED is set by a, but the sweep sets it"),
    ("axes: {a: {x: {OUTPUT_DIR: here}, y: {}}}", "OUTPUT_DIR is set by a, but the sweep sets it: use --output"),
    (f"options: {{OUTPUT_DIR: here}}\n{JITTER}", "OUTPUT_DIR is set by options"),
    (f"options: {{SEED: 1}}\n{JITTER}", "SEED is set by options"),
    (TWO_AXES, "the axes INPUT.COLOR_JITTER and jitter both set INPUT.COLOR_JITTER"),
    (f"seeds: [1, 2, 1]\n{JITTER}", "seeds has 1 more than once"),
    (f"seeds: [-1]\n{JITTER}", "a negative SEED draws a new seed every time"),
    (f"report: [AP, APxx]\n{JITTER}", "report: 'APxx' is not a metric of TEST.EVALUATOR hotcoco; did you mean"),
    (f"report: [AP, AP]\n{JITTER}", "report has AP more than once"),
    (f"report: [AP-ten]\n{JITTER}", "report: 'AP-ten'"),
    (f"{VOC}\n{JITTER}", "report: 'AP' is not a metric of TEST.EVALUATOR voc; did you mean AP50"),
    (f"report: [bbox/APX]\n{JITTER}", "report: 'bbox/APX'"),
]


@pytest.mark.parametrize("text, message", MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_mistake_is_reported_before_the_first_run(tmp_path, text, message):
    with pytest.raises(ValueError) as error:
        sweep(tmp_path, DIGITS + text + "\n").check()
    assert message in str(error.value)


def test_metrics_of_classes_and_other_tasks_are_accepted(tmp_path):
    sweep(tmp_path, f"{DIGITS}report: [AP, AP-7, bbox/AP50, final/AP]\n{JITTER}\n").check()
