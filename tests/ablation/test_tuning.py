"""Search for values: proposals, budgets, and that an interrupted search goes on as it would have."""

import json
import math

import pytest
from support import BASE, TINY

from retina_plugin import load_config
from retina_plugin.ablation.tuning import (
    BEST,
    STRENGTH,
    Range,
    Trial,
    best_of,
    default_space,
    keys_of,
    read_space,
    tune,
)
from retina_plugin.ablation.worker import FAILED, PLAN

pytest.importorskip("optuna")

SPACE = {"SOLVER.BASE_LR": Range(1e-4, 1e-1, log=True), "SOLVER.MOMENTUM": (0.8, 0.9)}


def score(values):
    """Return a score with its maximum, 50, at a rate of 0.003 and a momentum of 0.9."""
    return 50 - 20 * (math.log10(values["SOLVER.BASE_LR"] / 0.003)) ** 2 - 100 * abs(values["SOLVER.MOMENTUM"] - 0.9)


def pretend(folder):
    """Do what a worker does, without the training."""
    value = score(json.loads((folder / "values.json").read_text()))
    (folder / "summary.json").write_text(json.dumps({"results": {"bbox": {"AP": value}}}))


def search(output, trials=8, **options):
    return tune(
        BASE, output, space=SPACE, trials=trials, **{"train": pretend, "opts": tuple(map(str, TINY)), **options}
    )


def test_an_interrupted_search_goes_on_as_it_would_have(tmp_path):
    whole = search(tmp_path / "a")
    assert search(tmp_path / "b", trials=3) == whole[:3]

    def interrupted(folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "b", train=interrupted)
    begun = json.loads((tmp_path / "b/trial_003/values.json").read_text())
    assert search(tmp_path / "b") == whole and begun == whole[3].values

    def never(folder):
        raise AssertionError("nothing is left to train")

    assert search(tmp_path / "b", train=never) == whole


def test_the_search_finds_the_best_values(tmp_path):
    best = best_of(search(tmp_path, trials=30))
    assert best.score > 48 and best.values["SOLVER.MOMENTUM"] == 0.9
    assert search(tmp_path / "other", trials=3, seed=1) != search(tmp_path, trials=30)[:3], "another seed"


def test_the_best_config_loads_and_has_the_values(tmp_path):
    best = best_of(search(tmp_path))
    cfg = load_config(tmp_path / BEST)
    assert cfg.MODEL.FPN.OUT_CHANNELS == load_config(BASE, TINY).MODEL.FPN.OUT_CHANNELS, "keys for every training"
    assert best.values["SOLVER.BASE_LR"] == pytest.approx(cfg.SOLVER.BASE_LR)
    assert f"bbox/AP {best.score:.2f}" in (tmp_path / BEST).read_text()


def test_each_training_gets_its_values_and_those_of_the_user(tmp_path):
    search(tmp_path, trials=1)
    plan = json.loads((tmp_path / "trial_000" / PLAN).read_text())
    words = dict(zip(plan["opts"][0::2], plan["opts"][1::2], strict=True))
    assert float(words["SOLVER.BASE_LR"]) > 0 and words["OUTPUT_DIR"] == str(tmp_path / "trial_000")
    assert words["DATASETS.FINAL_TEST"] == "()", "the test data is not for choosing"
    assert words[str(TINY[0])] == str(TINY[1])


def test_a_failed_training_counts_and_is_not_chosen(tmp_path):
    def sometimes(folder):
        if folder.name == "trial_001":
            (folder / FAILED).write_text("exit code 3: the losses are not finite")
        else:
            pretend(folder)

    trials = search(tmp_path, trials=4, train=sometimes)
    assert trials[1].score is None and "not finite" in trials[1].reason and best_of(trials) is not trials[1]
    assert best_of([trials[1]]) is None


def test_a_search_whose_first_trainings_all_fail_ends(tmp_path):
    with pytest.raises(ValueError, match="the first 3 trainings failed, the last because: exit code 2"):
        search(tmp_path, train=lambda folder: (folder / FAILED).write_text("exit code 2: no such key"))


def test_results_without_the_metric_are_a_failure(tmp_path):
    trials = search(tmp_path, trials=1, metric="bbox/AP99")
    assert trials[0] == Trial(0, trials[0].values, None, "its results have no bbox/AP99")


def test_a_folder_of_another_search_is_refused(tmp_path):
    search(tmp_path, trials=1)
    with pytest.raises(ValueError, match="a search with different seed"):
        search(tmp_path, trials=1, seed=5)


def test_no_training_starts_after_the_minutes(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 50))  # every look at the clock is 50 s later
    monkeypatch.setattr("retina_plugin.ablation.tuning.time.monotonic", lambda: next(clock))
    assert len(search(tmp_path, trials=None, minutes=2)) == 2
    with pytest.raises(ValueError, match="trials or minutes"):
        search(tmp_path, trials=None)


def test_the_strength_of_the_augmentation_stands_for_two_keys():
    assert keys_of({STRENGTH: 0.0}) == {"INPUT.COLOR_JITTER": 0.0, "INPUT.SCALE_JITTER": ()}
    assert keys_of({STRENGTH: 1.0}) == {"INPUT.COLOR_JITTER": 0.4, "INPUT.SCALE_JITTER": (0.5, 2.0)}
    assert set(keys_of(dict.fromkeys(default_space(0.001, 3.0), 1.0))) >= {"SOLVER.BASE_LR", "INPUT.COLOR_JITTER"}


def test_a_space_is_read_from_a_file(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text("SOLVER.BASE_LR: {low: 0.0001, high: 0.01, log: true}\nMODEL.RETINANET.NUM_CONVS: [2, 4]\n")
    want = {"SOLVER.BASE_LR": Range(0.0001, 0.01, log=True), "MODEL.RETINANET.NUM_CONVS": (2, 4)}
    assert read_space(file) == want


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "{}",
        "A: {low: 2, high: 1}",
        "A: {low: 0, high: 1, log: true}",
        "A: []",
        "A: 3",
        "A: {lo: 1}",
        "A: AdamW",
    ],
)
def test_a_wrong_space_is_refused_by_name(tmp_path, text):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="space.yaml"):
        read_space(file)
