"""Sweep files: what they say, and what is wrong with them."""

import pytest
from conftest import ROOT

from retina_plugin.ablation import load_sweep

DIGITS = f"base: {ROOT / 'configs/ablations/digits.yaml'}\n"
GAMMA = "axes: {gamma: {'0': {MODEL.RETINANET.FOCAL_LOSS_GAMMA: 0.0}, '2': {}}}\n"


def sweep(tmp_path, text, **kwargs):
    (tmp_path / "mine.yaml").write_text(text)
    return load_sweep(tmp_path / "mine.yaml", **kwargs)


def test_rows_are_all_combinations_and_runs_go_seed_by_seed(tmp_path):
    found = sweep(
        tmp_path,
        DIGITS
        + "seeds: [3, 4]\naxes:\n  MODEL.FPN.OUT_CHANNELS: [32, 64]\n  loss: {ce: {MODEL.RETINANET.CLS_LOSS: cross_entropy}, fl: {}}\n",
    )
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


def test_a_size_replaces_what_stands_above_it(tmp_path):
    text = (
        GAMMA
        + "seeds: [1]\nsizes:\n  small: {base: BASE, seeds: [1, 2]}\n  large: {base: BASE, compare_to: {gamma: '2'}}\n".replace(
            "BASE", str(ROOT / "configs/ablations/digits.yaml")
        )
    )
    small, large = sweep(tmp_path, text), sweep(tmp_path, text, size="large")
    assert (small.name, small.seeds, small.compare_to) == ("mine-small", (1, 2), ("0",))
    assert (large.name, large.seeds, large.compare_to) == ("mine-large", (1,), ("2",))
    with pytest.raises(ValueError, match="no size 'huge'; it has small, large"):
        sweep(tmp_path, text, size="huge")


@pytest.mark.parametrize(
    "text, said",
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
def test_what_a_file_can_get_wrong(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        sweep(tmp_path, text)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        load_sweep("nowhere.yaml")
    with pytest.raises(FileNotFoundError, match="base config 'none.yaml'"):
        sweep(tmp_path, "base: none.yaml\n" + GAMMA)


def test_all_runs_that_cannot_work_are_named_before_any_begins(tmp_path):
    axes = "axes: {x: {a: {MODEL.RETINANET.FOCAL_LOS_GAMMA: 1}, b: {MODEL.RETINANET.NUM_CLASSES: 3}, c: {}, d: {INPUT.COLOR_JITTER: 0.0}, e: {}, 'e!': {INPUT.COLOR_JITTER: 0.1}, 'e?': {INPUT.COLOR_JITTER: 0.2}}}\n"
    with pytest.raises(ValueError) as error:
        sweep(tmp_path, DIGITS + axes).check()
    said = str(error.value)
    assert "x=a,seed=1" in said and "did you mean MODEL.RETINANET.FOCAL_LOSS_GAMMA?" in said
    assert "x=b,seed=1" in said and "has 10 classes" in said
    assert "the rows 'c' and 'd' are the same config" in said and "the rows 'd' and 'e' are the same" in said
    assert "two runs have the folder x=e_,seed=1" in said


def test_some_rows_are_run_beside_the_one_that_they_are_compared_to():
    sweep = load_sweep(ROOT / "configs/ablations/table_1d.yaml", only=["1:3", "512, 0.7"])
    assert [", ".join(row) for row in sweep.rows] == [
        "OHEM, 512, 0.7",
        "OHEM 1:3, 128, 0.5",
        "OHEM 1:3, 256, 0.5",
        "OHEM 1:3, 512, 0.5",
        "focal",
    ]
    assert len(sweep.runs) == 10 and load_sweep(ROOT / "configs/ablations/table_1d.yaml").only == ()
    with pytest.raises(ValueError, match="no row has '1:4' in its labels; there are"):
        load_sweep(ROOT / "configs/ablations/table_1d.yaml", only=["1:3", "1:4"])


MISTAKES = [
    ("axes: {SEED: [1, 2]}", "SEED is set by SEED, but belongs to the sweep: list what to repeat under seeds"),
    ("axes: {a: {x: {SEED: 3}, y: {}}}", "SEED is set by a, but belongs to the sweep"),
    ("axes: {a: {x: {OUTPUT_DIR: here}, y: {}}}", "OUTPUT_DIR is set by a, but belongs to the sweep: give --output"),
    ("options: {OUTPUT_DIR: here}\naxes: {INPUT.COLOR_JITTER: [0.0, 0.1]}", "OUTPUT_DIR is set by options"),
    ("options: {SEED: 1}\naxes: {INPUT.COLOR_JITTER: [0.0, 0.1]}", "SEED is set by options"),
    ("axes: {INPUT.COLOR_JITTER: [0.0, 0.1], jitter: {on: {INPUT.COLOR_JITTER: 0.3}, off: {}}}", "the axes INPUT.COLOR_JITTER and jitter both set INPUT.COLOR_JITTER"),
    ("seeds: [1, 2, 1]\naxes: {INPUT.COLOR_JITTER: [0.0, 0.1]}", "seeds has 1 more than once"),
    ("seeds: [-1]\naxes: {INPUT.COLOR_JITTER: [0.0, 0.1]}", "a negative SEED is another one every time"),
    ("report: [AP, APxx]\naxes: {INPUT.COLOR_JITTER: [0.0, 0.1]}", "report names 'APxx' is not a metric of TEST.EVALUATOR hotcoco; did you mean"),
    ("report: [AP, AP]\naxes: {INPUT.COLOR_JITTER: [0.0, 0.1]}", "report has AP more than once"),
    ("report: [AP-ten]\naxes: {INPUT.COLOR_JITTER: [0.0, 0.1]}", "report names 'AP-ten'"),
    ("options: {TEST.EVALUATOR: voc, TEST.BEST_METRIC: bbox/AP50}\naxes: {INPUT.COLOR_JITTER: [0.0, 0.1]}", "report names 'AP' is not a metric of TEST.EVALUATOR voc; did you mean AP50"),
    ("report: [bbox/APX]\naxes: {INPUT.COLOR_JITTER: [0.0, 0.1]}", "report names 'bbox/APX'"),
]  # fmt: skip


@pytest.mark.parametrize("text, said", MISTAKES, ids=[said[:40] for _, said in MISTAKES])
def test_a_mistake_is_named_before_the_first_run(tmp_path, text, said):
    with pytest.raises(ValueError) as error:
        sweep(tmp_path, DIGITS + text + "\n").check()
    assert said in str(error.value)


def test_metrics_of_classes_and_of_other_tasks_are_no_mistake(tmp_path):
    sweep(
        tmp_path, DIGITS + "report: [AP, AP-7, bbox/AP50, final/AP]\naxes: {INPUT.COLOR_JITTER: [0.0, 0.1]}\n"
    ).check()
