"""Rules: what each chooses for facts with a known answer, and that no key of the user is changed."""

import dataclasses

import pytest
from support import BASE, TINY

from retina_plugin import load_config
from retina_plugin.config import all_keys, get_key
from retina_plugin.plan import rules
from retina_plugin.plan.budget import Budget, Speed
from retina_plugin.plan.fingerprint import Fingerprint
from retina_plugin.plan.rules import Choice, Draft
from retina_plugin.plan.symmetry import Symmetry

FACTS = Fingerprint(
    images=200,
    height=480,
    width=640,
    smallest=(480, 640),
    largest=(480, 640),
    shorter=(480,) * 5,
    objects=1000,
    classes={"a": 600, "b": 400},
    images_with={"a": 150, "b": 100},
    empty=0.0,
    per_image=(1, 3, 5, 7, 9),
    most=12,
    sides=(48, 60, 80, 100, 120),
    longest=(60, 70, 90, 120, 150),
    ratios=(0.8, 0.9, 1.0, 1.1, 1.2),
    crowded=0.0,
    val_images=50,
)


def settled(**changes):
    cfg = load_config(BASE, TINY)
    values = {key: get_key(cfg, key) for key in all_keys(cfg)}
    values |= {"INPUT.MIN_SIZE_TEST": 320, "INPUT.MAX_SIZE_TEST": 427, "SOLVER.EPOCHS": 24, "SOLVER.IMS_PER_BATCH": 8}
    return values | {"DATALOADER.FILTER_EMPTY_ANNOTATIONS": False, **changes}


def record(*boxes, size=(480, 640)):
    return {"height": size[0], "width": size[1], "annotations": [{"bbox": box, "category_id": 0} for box in boxes]}


def draft(*records, budget=None, given=(), speed=None, keys=(), **facts):
    some = list(records) or [record([100, 100, 180, 180])]
    found = Draft(dataclasses.replace(FACTS, **facts), some, budget or Budget(), settled(**dict(keys)))
    found.given, found.speed, found.test_images = frozenset(given), speed, 50
    return found


def test_the_input_is_as_large_as_the_small_objects_need():
    small = rules.READABLE * 1.5
    choice = rules.resolution(draft(sides=(small, 100, 120, 140, 160)))
    # 1 / 1.5 of 480 px, on the grid of 32 px
    assert choice.settings["INPUT.MIN_SIZE_TEST"] == 320 and choice.settings["INPUT.MAX_SIZE_TEST"] == 427
    assert choice.settings["INPUT.MIN_SIZE_TRAIN"] == [256, 288, 320, 352, 384]
    assert f"smaller than {small:.0f} px" in choice.why


@pytest.mark.parametrize(
    ("small", "size", "want"),
    [(1000, (480, 640), rules.SMALLEST_INPUT), (1, (20, 30), rules.SMALLEST_INPUT), (1, (1, 1), rules.SMALLEST_INPUT)],
)
def test_the_input_has_a_least_size(small, size, want):
    choice = rules.resolution(draft(sides=(small,) * 5, height=size[0], width=size[1], longest=(size[0] * 9,) * 5))
    assert choice.settings["INPUT.MIN_SIZE_TEST"] == want


def test_small_objects_in_large_images_are_cut_into_tiles():
    facts = {"height": 4000, "width": 6000, "sides": (20, 22, 25, 28, 30), "longest": (22, 25, 28, 30, 40)}
    choice = rules.resolution(draft(record([0, 0, 40, 40], size=(4000, 6000)), **facts))
    side = round(rules.TILE_INPUT * 20 / rules.READABLE)
    assert choice.what == "tiles"
    assert choice.settings["INPUT.TILES.SIZE"] == choice.settings["TEST.TILES.SIZE"] == side
    assert choice.settings["TEST.TILES.OVERLAP"] * side >= 40, "the largest 5 % of the objects are seen whole"
    assert choice.settings["TEST.TILES.WHOLE"] is False
    assert "tiles to predict on" in choice.cost


def test_a_few_large_objects_are_looked_for_in_the_whole_image():
    facts = {"height": 4000, "width": 6000, "sides": (20, 22, 25, 28, 30), "longest": (22, 25, 28, 30, 40)}
    choice = rules.resolution(draft(record([0, 0, 2000, 900], size=(4000, 6000)), **facts))
    assert choice.settings["TEST.TILES.WHOLE"] is True


def test_objects_that_do_not_fit_into_tiles_keep_the_image_whole():
    facts = {"height": 4000, "width": 6000, "sides": (20, 22, 25, 28, 30), "longest": (22, 25, 28, 30, 900)}
    choice = rules.resolution(draft(**facts))
    assert choice.what == "input size" and choice.settings["INPUT.MIN_SIZE_TEST"] == rules.LARGEST_INPUT
    assert "do not fit into tiles" in choice.cost


def test_anchors_follow_the_objects():
    # At 320 px, objects of 12 px are 8 px: the smallest anchor, of 32 px, has an IoU of 1/16 with them.
    some = [record([x, 100, x + 12, 112]) for x in range(0, 600, 20)]
    choice = rules.anchors(draft(*some))
    assert choice.settings["MODEL.ANCHOR_GENERATOR.SCALE"] < 2 and choice.settings["MODEL.RETINANET.LEVELS"][0] == 3
    assert "instead of 0 % of the objects have an anchor" in choice.why
    assert rules.anchors(draft(record([100, 100, 148, 148]))) is None, "32 px at 320 px"


def test_anchors_of_tiles_are_those_of_their_resolution():
    tiles = {"TEST.TILES.SIZE": 160, "INPUT.MIN_SIZE_TEST": 320}
    some = [record([x, 100, x + 16, 116]) for x in range(0, 600, 20)]
    assert rules.anchors(draft(*some, keys=tiles)) is None, "16 px are 32 px in a tile"


@pytest.mark.parametrize(("most", "want"), [(100, None), (101, 200), (200, 300), (1000, 1500)])
def test_detections(most, want):
    choice = rules.detections(draft(most=most))
    assert (choice.settings["TEST.DETECTIONS_PER_IMAGE"] if choice else None) == want


def symmetry(mirrored, upside_down=0.3, turned=0.3, p=0.005, objects=500):
    values = (mirrored, upside_down, turned)
    names = ("mirrored", "upside_down", "turned")
    return {name: Symmetry(value, p, objects) for name, value in zip(names, values, strict=True)}


@pytest.mark.parametrize(
    ("found", "want"),
    [
        ({}, None),
        (symmetry(0.2), {"INPUT.RANDOM_FLIP": "none"}),
        (symmetry(0.2, p=0.3), None),  # maybe by chance
        (symmetry(0.01), None),  # upright
        (symmetry(0.01, 0.02), {"INPUT.RANDOM_FLIP_VERTICAL": True}),
        (symmetry(0.01, 0.02, 0.02), {"INPUT.RANDOM_FLIP_VERTICAL": True, "INPUT.ROTATE_90": True}),
        (symmetry(0.01, 0.02, 0.02, objects=20), None),  # too few to know
    ],
)
def test_flips_follow_the_symmetry_of_the_objects(found, want):
    choice = rules.mirroring(draft(symmetry=found))
    assert (choice.settings if choice else None) == want


def test_rare_classes_are_repeated():
    choice = rules.sampling(draft(images_with={"a": 150, "b": 10}))
    assert choice.settings["DATALOADER.SAMPLER_TRAIN"] == "RepeatFactorTrainingSampler" and "b in less" in choice.why
    assert rules.sampling(draft(images_with={"a": 150, "b": 100})) is None
    assert rules.sampling(draft(images_with={"a": 150}, classes={"a": 600})) is None


def test_empty_images_are_at_most_half():
    choice = rules.empty_images(draft(empty=0.9))
    kept = choice.settings["DATALOADER.EMPTY_IMAGES"]
    assert kept * 0.9 == pytest.approx(0.1, abs=1e-3), "as many without as with objects"
    assert rules.empty_images(draft(empty=0.3)) is None
    assert rules.empty_images(draft(empty=0.9, keys={"DATALOADER.FILTER_EMPTY_ANNOTATIONS": True})) is None


def test_a_batch_that_needs_too_much_memory_is_split():
    speed = Speed(train=0.1, test=0.05, memory=6 * 2**30)
    choice = rules.memory(draft(budget=Budget(memory=2 * 2**30), speed=speed))
    assert choice.settings == {"SOLVER.ACCUMULATE": 4}, "8 images in 4 steps of 2, each with 1.5 GiB"
    assert rules.memory(draft(budget=Budget(memory=8 * 2**30), speed=speed)) is None
    assert rules.memory(draft(budget=Budget(memory=1), speed=speed)).settings == {"SOLVER.ACCUMULATE": 8}


def test_a_smaller_input_makes_room_for_enough_steps():
    facts, keys = {"sides": (42, 60, 80, 100, 120)}, {"INPUT.MIN_SIZE_TEST": 320}
    speed = Speed(train=0.1, test=0.0, memory=0)
    # 4 min are 225 s after the start: 2,045 images at 320 px, 256 steps; at 224 px twice as many, 522 steps, which are
    # not enough; at 192 px 710 steps, and the smallest objects, 42 px in 480 px, still have 17 px (18 px, on the grid).
    some = draft(budget=Budget(minutes=4), speed=speed, keys=keys, **facts)
    choice, *_ = rules.affordable(some)
    assert choice.settings["INPUT.MIN_SIZE_TEST"] == 192 and choice.settings["INPUT.MAX_SIZE_TEST"] == 256
    assert "only 256 steps of 320 px" in choice.why and "17 px" in choice.cost
    assert some.speed.train == pytest.approx(0.1 * 0.36), "later rules count with the smaller input"
    assert rules.affordable(draft(budget=Budget(minutes=40), speed=speed, keys=keys, **facts)) == []
    assert rules.affordable(draft(budget=Budget(minutes=4), speed=speed, keys=keys, given=keys, **facts)) == []
    tiled = draft(budget=Budget(minutes=4), speed=speed, keys={"TEST.TILES.SIZE": 100}, **facts)
    assert rules.affordable(tiled) == []


def test_objects_stay_readable_however_short_the_time():
    speed = Speed(train=10.0, test=0.0, memory=0)
    some = draft(budget=Budget(minutes=4), speed=speed, keys={"INPUT.MIN_SIZE_TEST": 448}, sides=(28, 60, 80, 100, 120))
    choice, *_ = rules.affordable(some)
    assert choice.settings["INPUT.MIN_SIZE_TEST"] == 320, "28 px of 480 are 18 px at 309 px, 320 px on the grid"


def keys_of(choices):
    return {key: value for choice in choices for key, value in choice.settings.items()}


def test_minutes_become_epochs():
    speed = Speed(train=0.1, test=0.05, memory=0)
    keys = keys_of(rules.schedule(draft(budget=Budget(minutes=10), speed=speed)))
    # 600 s - 15 s to start - 50 images of 0.05 s, at 0.11 s per image with overhead: 5,295 images, 26.5 epochs of 200
    assert keys["SOLVER.EPOCHS"] == 26 and keys["SOLVER.WARMUP_EPOCHS"] == 3 and keys["SOLVER.FREEZE_EPOCHS"] == 1


def test_a_short_training_on_many_images_is_counted_in_iterations():
    speed = Speed(train=0.1, test=0.05, memory=0)
    keys = keys_of(rules.schedule(draft(budget=Budget(minutes=10), speed=speed, images=10_000)))
    assert keys["SOLVER.EPOCHS"] == 0 and keys["SOLVER.MAX_ITER"] == 5295 // 8
    assert keys["TEST.EVAL_EPOCHS"] == keys["TEST.EVAL_PERIOD"] == 0


def test_a_training_does_not_repeat_few_images_for_ever():
    speed = Speed(train=0.1, test=0.05, memory=0)
    choices = rules.schedule(draft(budget=Budget(minutes=600), speed=speed, images=5))
    assert keys_of(choices)["SOLVER.EPOCHS"] == rules.MOST_EPOCHS
    assert "ends early" in choices[0].cost


@pytest.mark.parametrize(
    ("images", "want"), [(10_000, rules.FEWEST_EPOCHS), (250, rules.IMAGES_BY_DEFAULT // 250), (10, rules.MOST_EPOCHS)]
)
def test_without_a_budget_the_epochs_follow_from_the_images(images, want):
    assert keys_of(rules.schedule(draft(images=images)))["SOLVER.EPOCHS"] == want


def test_empty_images_that_are_left_out_do_not_count():
    keys = {"DATALOADER.FILTER_EMPTY_ANNOTATIONS": True}
    with_all = keys_of(rules.schedule(draft(images=500)))["SOLVER.EPOCHS"]
    without = keys_of(rules.schedule(draft(images=1000, empty=0.5, keys=keys)))["SOLVER.EPOCHS"]
    assert with_all == without


def test_evaluation_takes_little_of_the_time():
    often = keys_of(rules.schedule(draft(images=2000)))
    assert often["TEST.EVAL_EPOCHS"] == 2, "8 times in 12 epochs"
    tiles = {"TEST.TILES.SIZE": 32, "INPUT.MIN_SIZE_TEST": 320, "TEST.TILES.OVERLAP": 0.2}
    seldom = keys_of(rules.schedule(draft(images=200, keys=tiles)))
    assert seldom["TEST.EVAL_EPOCHS"] == 0 and seldom["TEST.EARLY_STOP_PATIENCE"] == 0


@pytest.mark.parametrize("rule", [*rules.RULES, *rules.AFTER_MEASURING])
def test_no_rule_changes_a_key_of_the_user(rule):
    facts = {"most": 500, "empty": 0.9, "images_with": {"a": 150, "b": 5}, "symmetry": symmetry(0.5), "crowded": 0.5}
    some = [record([x, 100, x + 12, 112]) for x in range(0, 600, 20)]
    speed = Speed(train=0.1, test=0.05, memory=6 * 2**30)
    budget = Budget(minutes=5, memory=2**30)
    free = draft(*some, budget=budget, speed=speed, sides=(20,) * 5, **facts)
    found = rule(free)
    choices = found if isinstance(found, list) else [found]
    every = [key for choice in choices for key in choice.settings]
    if rule is rules.affordable:  # nothing to lower for tiles or for the smallest input
        return
    assert every, "the facts are such that every rule chooses something"
    fixed = draft(*some, budget=budget, speed=speed, given=every, sides=(20,) * 5, **facts)
    before = dict(fixed.settled)
    for choice in choices:
        fixed.apply(choice)
    assert fixed.settled == before and fixed.choices == []


def test_what_is_settled_counts_for_later_rules():
    some = draft()
    some.apply(Choice("input size", {"INPUT.MIN_SIZE_TEST": 160, "INPUT.MAX_SIZE_TEST": 1000}, "because"))
    assert some.input_size == (160, 213) and some.zoom == pytest.approx(1 / 3)
    some.apply(
        Choice("tiles", {"TEST.TILES.SIZE": 200, "TEST.TILES.OVERLAP": 0.5, "TEST.TILES.WHOLE": True}, "because")
    )
    # 480 px are covered by tiles at 0, 100, 200, 280: 1 + ceil(280 / 100) = 4; 640 px by 1 + ceil(440 / 100) = 6
    assert some.input_size == (160, 160) and some.zoom == 0.8 and some.views == 4 * 6 + 1
