"""Rules about the training: what each chooses for facts with a known answer."""

import pytest
from drafts import draft, keys_of

from retina_plugin.plan import training_rules
from retina_plugin.plan.budget import Budget, Speed
from retina_plugin.plan.rules import AFTER_MEASURING


def scheduled(some):
    """Return what the rules about epochs, batch and evaluations choose, one after another."""
    for rule in AFTER_MEASURING[3:]:
        if rule.is_open(some) and (choice := rule.choose(some)):
            some.apply(choice)
    return some.choices


def test_rare_classes_are_repeated():
    choice = training_rules.sampling(draft(images_with={"a": 150, "b": 10}))
    assert choice.settings["DATALOADER.SAMPLER_TRAIN"] == "RepeatFactorTrainingSampler" and "b in less" in choice.why
    assert training_rules.sampling(draft(images_with={"a": 150, "b": 100})) is None
    assert training_rules.sampling(draft(images_with={"a": 150}, classes={"a": 600})) is None


def test_empty_images_are_at_most_half():
    choice = training_rules.empty_images(draft(empty=0.9))
    kept = choice.settings["DATALOADER.EMPTY_IMAGES"]
    assert kept * 0.9 == pytest.approx(0.1, abs=1e-3), "as many without as with objects"
    assert training_rules.empty_images(draft(empty=0.3)) is None
    assert training_rules.empty_images(draft(empty=0.9, keys={"DATALOADER.FILTER_EMPTY_ANNOTATIONS": True})) is None


def test_a_batch_that_needs_too_much_memory_is_split():
    speed = Speed(train=0.1, test=0.05, memory=6 * 2**30)
    choice = training_rules.memory(draft(budget=Budget(memory=2 * 2**30), speed=speed))
    assert choice.settings == {"SOLVER.ACCUMULATE": 4}, "8 images in 4 steps of 2, each with 1.5 GiB"
    assert training_rules.memory(draft(budget=Budget(memory=8 * 2**30), speed=speed)) is None
    assert training_rules.memory(draft(budget=Budget(memory=1), speed=speed)).settings == {"SOLVER.ACCUMULATE": 8}


def test_minutes_become_epochs():
    speed = Speed(train=0.1, test=0.05, memory=0)
    keys = keys_of(scheduled(draft(budget=Budget(minutes=10), speed=speed)))
    # 92 % of 600 s - 15 s to start - 50 images of 0.05 s, at 0.11 s per image: 4,871 images, 24.4 epochs of 200
    assert keys["SOLVER.EPOCHS"] == 24 and keys["SOLVER.WARMUP_EPOCHS"] == 3 and keys["SOLVER.FREEZE_EPOCHS"] == 1


def test_a_short_training_on_many_images_is_counted_in_iterations():
    speed = Speed(train=0.1, test=0.05, memory=0)
    keys = keys_of(scheduled(draft(budget=Budget(minutes=10), speed=speed, images=10_000)))
    assert keys["SOLVER.EPOCHS"] == 0 and keys["SOLVER.MAX_ITER"] == 4871 // 8
    assert keys["TEST.EVAL_EPOCHS"] == keys["TEST.EVAL_PERIOD"] == 0


def test_a_training_does_not_repeat_few_images_for_ever():
    speed = Speed(train=0.1, test=0.05, memory=0)
    choices = scheduled(draft(budget=Budget(minutes=600), speed=speed, images=5))
    assert keys_of(choices)["SOLVER.EPOCHS"] == training_rules.MOST_EPOCHS
    assert "ends early" in choices[0].cost


@pytest.mark.parametrize(
    ("images", "want"),
    [
        (10_000, training_rules.FEWEST_EPOCHS),
        (250, training_rules.IMAGES_BY_DEFAULT // 250),
        (10, training_rules.MOST_EPOCHS),
    ],
)
def test_without_a_budget_the_epochs_follow_from_the_images(images, want):
    assert keys_of(scheduled(draft(images=images)))["SOLVER.EPOCHS"] == want


def test_empty_images_that_are_left_out_do_not_count():
    keys = {"DATALOADER.FILTER_EMPTY_ANNOTATIONS": True}
    with_all = keys_of(scheduled(draft(images=500)))["SOLVER.EPOCHS"]
    without = keys_of(scheduled(draft(images=1000, empty=0.5, keys=keys)))["SOLVER.EPOCHS"]
    assert with_all == without


def test_evaluation_takes_little_of_the_time():
    often = keys_of(scheduled(draft(images=2000)))
    assert often["TEST.EVAL_EPOCHS"] == 2, "8 times in 12 epochs"
    tiles = {"TEST.TILES.SIZE": 32, "INPUT.MIN_SIZE_TEST": 320, "TEST.TILES.OVERLAP": 0.2}
    seldom = keys_of(scheduled(draft(images=200, keys=tiles)))
    assert seldom["TEST.EVAL_EPOCHS"] == 0 and seldom["TEST.EARLY_STOP_PATIENCE"] == 0


def test_iterations_are_those_of_the_reference_batch():
    # The config is scaled to the batch when it is loaded: a batch of 4 doubles the iterations.
    speed = Speed(train=0.1, test=0.05, memory=0)
    keys = {"SOLVER.IMS_PER_BATCH": 4, "SOLVER.REFERENCE_BATCH_SIZE": 8}
    some = draft(budget=Budget(minutes=10), speed=speed, images=10_000, keys=keys, given=["SOLVER.IMS_PER_BATCH"])
    assert keys_of(scheduled(some))["SOLVER.MAX_ITER"] == 4871 // 8


@pytest.mark.parametrize(("given", "warm_up", "freeze"), [(1, 1, 0), (50, 6, 1)])
def test_epochs_of_the_user_get_a_warm_up_that_fits(given, warm_up, freeze):
    keys = keys_of(scheduled(draft(keys={"SOLVER.EPOCHS": given}, given=["SOLVER.EPOCHS"])))
    assert "SOLVER.EPOCHS" not in keys and "SOLVER.MAX_ITER" not in keys
    assert (keys["SOLVER.WARMUP_EPOCHS"], keys["SOLVER.FREEZE_EPOCHS"]) == (warm_up, freeze)
    assert keys["TEST.EVAL_EPOCHS"] == {1: 0, 50: 7}[given], "one evaluation would take a third of the time of an epoch"


def test_tiles_are_seen_as_often_as_whole_images():
    tiles = {"TEST.TILES.SIZE": 120, "TEST.TILES.OVERLAP": 0.0, "INPUT.MIN_SIZE_TEST": 320}
    some = draft(images=5, keys=tiles)
    # 480 x 640 px are 4 x 6 tiles
    assert keys_of(scheduled(some))["SOLVER.EPOCHS"] == training_rules.IMAGES_BY_DEFAULT // 5
