"""A plan as options, as a table, as a config, and in the folder of a run."""

import dataclasses
import json

import pytest
import yaml
from drafts import FACTS
from support import ROOT

from detectron2.data import DatasetCatalog

from retina_plugin import load_config
from retina_plugin.config import all_keys, get_key
from retina_plugin.plan import plan as module
from retina_plugin.plan.budget import Budget, Speed
from retina_plugin.plan.fingerprint import fingerprint_of
from retina_plugin.plan.plan import FILE, earlier_options, make_plan, notes_on, options_of
from retina_plugin.plan.training_rules import MOST_EPOCHS

FINETUNE = ROOT / "configs/finetune.yaml"
DATA = {"DATASETS.TRAIN": ("digits_train",), "DATASETS.TEST": ("digits_val",)}


@pytest.fixture()
def planned(small_digits):
    records = DatasetCatalog.get("digits_train")
    facts = fingerprint_of(records, list("0123456789"))

    def make(*opts, **options):
        return make_plan(facts, records, 10, config_file=FINETUNE, opts=opts, test_images=5, **options)

    return make


def test_the_config_of_a_plan_is_what_its_options_make(planned, tmp_path):
    plan = planned()
    file = tmp_path / "plan.yaml"
    file.write_text(plan.config(str(FINETUNE), DATA))
    from_file = load_config(file)
    from_options = load_config(FINETUNE, [*options_of(DATA), *plan.options()])
    assert all(get_key(from_file, key) == get_key(from_options, key) for key in all_keys(from_file))
    text = file.read_text()
    assert all(f"# - {choice.what} (" in text and choice.why in text for choice in plan.choices)
    assert set(yaml.safe_load(text)) >= {"_BASE_", "DATASETS", "INPUT", "SOLVER"}


def test_the_table_says_what_and_why(planned):
    lines = planned().table().splitlines()
    assert lines[0].startswith("input size") and "INPUT.MIN_SIZE_TEST" in lines[0]
    assert lines[1].lstrip().startswith("why: 5 % of the objects are smaller than")


def test_the_same_data_gives_the_same_plan(planned):
    assert planned().json() == planned().json()


def test_keys_of_the_user_are_kept_and_count_for_the_others(planned):
    free, fixed = planned(), planned("INPUT.MIN_SIZE_TRAIN", "[64]", "SOLVER.EPOCHS", "3")
    assert {"INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "SOLVER.EPOCHS"} <= set(free.settings)
    assert not {"INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST", "SOLVER.EPOCHS"} & set(fixed.settings)
    # Digits of 20 px are 7 px when an image of 192 px becomes 64 px: the anchors have to be smaller.
    assert fixed.settings["MODEL.ANCHOR_GENERATOR.SCALE"] < 3


def test_minutes_and_epochs_contradict_each_other(planned):
    with pytest.raises(ValueError, match="both say how long to train"):
        planned("SOLVER.EPOCHS", "5", budget=Budget(minutes=3))
    with pytest.raises(ValueError, match="come in pairs"):
        planned("SOLVER.EPOCHS")


def test_class_names_are_written_as_text(small_digits):
    records = DatasetCatalog.get("digits_train")
    facts = fingerprint_of(records, ["0\nSEED: 99", *"123456789"])
    facts = dataclasses.replace(facts, images_with=dict.fromkeys(facts.images_with, 1) | {"1": 99})
    text = make_plan(facts, records, 10, config_file=FINETUNE).config(str(FINETUNE), DATA)
    assert "SEED" not in yaml.safe_load(text) and "0\\nSEED: 99" in text


def test_a_wrong_option_is_refused_by_name(planned):
    with pytest.raises(ValueError, match="INPUT.MIN_SIZE_TST"):
        planned("INPUT.MIN_SIZE_TST", "64")


def test_minutes_are_measured_at_the_planned_size(planned, monkeypatch):
    asked = {}

    def measured(cfg, records, **options):
        asked.update(options, batch=cfg.SOLVER.IMS_PER_BATCH)
        return Speed(train=0.1, test=0.1, memory=1)

    monkeypatch.setattr(module, "measure", measured)
    keys = {"SOLVER.IMS_PER_BATCH": 4, "INPUT.MIN_SIZE_TRAIN": [256], "INPUT.MIN_SIZE_TEST": 256}
    plan = planned(*options_of(keys), budget=Budget(minutes=1))
    assert plan.speed == Speed(0.1, 0.1, 1) and asked["batch"] == 4
    assert asked["height"] == asked["width"] == 256
    # 92 % of 60 s - 15 s - 0.5 s, at 0.11 s: 372 images of the 12 of the small digits
    assert plan.settings["SOLVER.EPOCHS"] == 372 // len(DatasetCatalog.get("digits_train")) < MOST_EPOCHS
    monkeypatch.setattr(module, "measure", lambda cfg, records, **options: Speed(1000.0, 1.0, 1))
    with pytest.raises(ValueError, match="1 minutes are too short for a training here"):
        planned(budget=Budget(minutes=1))


def test_a_run_keeps_its_plan(planned, tmp_path):
    plan = planned()
    assert earlier_options(tmp_path) is None
    (tmp_path / FILE).write_text(plan.json())
    assert earlier_options(tmp_path) == plan.options()
    assert json.loads(plan.json())["facts"]["images"] == plan.facts.images
    (tmp_path / FILE).write_text("[]")
    with pytest.raises(ValueError, match="planned.json is not a plan"):
        earlier_options(tmp_path)


def test_notes_say_what_no_plan_can_mend():
    assert notes_on(FACTS) == []
    few = {"a": 600, "b": 3, **{f"c{i}": 1 for i in range(6)}}
    poor = dataclasses.replace(FACTS, classes=few, val_images=3, val_alike=0.25)
    assert notes_on(poor) == [
        "classes with fewer than 10 objects are hardly learned: b (3), c0 (1), c1 (1), c2 (1), c3 (1) and 2 more",
        "the AP of 3 validation images is mostly chance",
        "25 % of the validation images look like a training image, which flatters the AP",
    ]


def test_notes_are_below_the_table(planned):
    assert planned().table().splitlines()[-1].startswith("note: the AP of 0 validation images")
