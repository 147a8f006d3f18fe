"""Rules about the input: what each chooses for facts with a known answer."""

import pytest
from drafts import draft, record, symmetry

from retina_plugin.plan import input_rules
from retina_plugin.plan.budget import Budget, Speed


def test_the_input_is_as_large_as_the_small_objects_need():
    small = input_rules.READABLE * 1.5
    choice = input_rules.resolution(draft(sides=(small, 100, 120, 140, 160)))
    # 1 / 1.5 of 480 px, on the grid of 32 px
    assert choice.settings["INPUT.MIN_SIZE_TRAIN"] == [256, 288, 320, 352, 384]
    assert choice.settings["INPUT.MIN_SIZE_TEST"] == 352 and choice.settings["INPUT.MAX_SIZE_TEST"] == 470
    assert f"smaller than {small:.0f} px" in choice.why


@pytest.mark.parametrize(
    ("small", "size", "want"),
    [
        (1000, (480, 640), input_rules.SMALLEST_INPUT),
        (1, (20, 30), input_rules.SMALLEST_INPUT),
        (1, (1, 1), input_rules.SMALLEST_INPUT),
    ],
)
def test_the_input_has_a_least_size(small, size, want):
    choice = input_rules.resolution(
        draft(sides=(small,) * 5, height=size[0], width=size[1], longest=(size[0] * 9,) * 5)
    )
    assert choice.settings["INPUT.MIN_SIZE_TRAIN"][2] == want


def test_small_objects_in_large_images_are_cut_into_tiles():
    facts = {"height": 4000, "width": 6000, "sides": (20, 22, 25, 28, 30), "longest": (22, 25, 28, 30, 40)}
    choice = input_rules.resolution(draft(record([0, 0, 40, 40], size=(4000, 6000)), **facts))
    side = round(input_rules.TILE_INPUT * 20 / input_rules.READABLE)
    assert choice.what == "tiles"
    assert choice.settings["INPUT.TILES.SIZE"] == choice.settings["TEST.TILES.SIZE"] == side
    assert choice.settings["INPUT.MIN_SIZE_TRAIN"][2] == 320 and choice.settings["INPUT.MIN_SIZE_TEST"] == 352
    assert choice.settings["TEST.TILES.OVERLAP"] * side >= 40, "the largest 5 % of the objects are seen whole"
    assert choice.settings["TEST.TILES.WHOLE"] is False
    assert "tiles to predict on" in choice.cost


def test_a_few_large_objects_are_looked_for_in_the_whole_image():
    facts = {"height": 4000, "width": 6000, "sides": (20, 22, 25, 28, 30), "longest": (22, 25, 28, 30, 40)}
    choice = input_rules.resolution(draft(record([0, 0, 2000, 900], size=(4000, 6000)), **facts))
    assert choice.settings["TEST.TILES.WHOLE"] is True


def test_objects_that_do_not_fit_into_tiles_keep_the_image_whole():
    facts = {"height": 4000, "width": 6000, "sides": (20, 22, 25, 28, 30), "longest": (22, 25, 28, 30, 900)}
    choice = input_rules.resolution(draft(**facts))
    assert choice.what == "input size" and choice.settings["INPUT.MIN_SIZE_TRAIN"][2] == input_rules.LARGEST_INPUT
    assert "too many objects are longer than half a tile" in choice.cost


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
        (symmetry(0.01, 0.02, 0.02, worst=0.3), {"INPUT.RANDOM_FLIP": "none"}),  # one class is one-sided
    ],
)
def test_flips_follow_the_symmetry_of_the_objects(found, want):
    choice = input_rules.mirroring(draft(symmetry=found))
    assert (choice.settings if choice else None) == want


def test_images_are_enlarged_less_if_the_time_is_short():
    # Images of 192 px at 320 px. Of 3.9 min, 92 % of 219 s after the start: 1,832 images, 229 steps; at 288 px 283;
    # at 256 px 1.6 times as many, 358, which is enough.
    facts, keys = {"height": 192, "width": 192, "sides": (17, 23, 30, 45, 60)}, {"INPUT.MIN_SIZE_TRAIN": [320]}
    speed = Speed(train=0.1, test=0.0, memory=0)
    some = draft(budget=Budget(minutes=3.9), speed=speed, keys=keys, **facts)
    choice = input_rules.affordable(some)
    assert choice.settings["INPUT.MIN_SIZE_TRAIN"][2] == 256 and choice.settings["INPUT.MAX_SIZE_TRAIN"] == 410
    assert choice.settings["INPUT.MIN_SIZE_TEST"] == 288 and choice.settings["INPUT.MAX_SIZE_TEST"] == 384
    assert "only 229 steps of 320 px" in choice.why and "23 px" in choice.cost
    assert some.speed.train == pytest.approx(0.1 * 0.64), "later rules count with the smaller input"
    short = draft(budget=Budget(minutes=1), speed=speed, keys=keys, **facts)
    assert input_rules.affordable(short).settings["INPUT.MIN_SIZE_TRAIN"][2] == 192, "as large as they are"
    assert input_rules.affordable(draft(budget=Budget(minutes=40), speed=speed, keys=keys, **facts)) is None
    tiled = draft(budget=Budget(minutes=4), speed=speed, keys={"TEST.TILES.SIZE": 100}, **facts)
    assert input_rules.affordable(tiled) is None


@pytest.mark.parametrize(("step", "want"), [(0.11, None), (0.15, 256), (10.0, 224)])
def test_images_that_are_reduced_anyway_are_reduced_further_only_for_few_steps_and_to_middle_sized_objects(step, want):
    # 480 px at 320 px. In 4 minutes 214 steps at 0.11 s, enough; at 0.15 s 157, at 288 px 194, at 256 px 245. Half of
    # the objects are smaller than 80 of 480 px, 37 px at 224 px.
    speed = Speed(train=step, test=0.0, memory=0)
    choice = input_rules.affordable(draft(budget=Budget(minutes=4), speed=speed, keys={"INPUT.MIN_SIZE_TRAIN": [320]}))
    assert (choice.settings["INPUT.MIN_SIZE_TRAIN"][2] if choice else None) == want


def test_elongated_objects_are_not_turned():
    # Ships look the same in a mirror and upside down, and, in a square patch, turned.
    choice = input_rules.mirroring(draft(symmetry=symmetry(0.01, 0.02, 0.02), ratios=(0.2, 0.3, 0.3, 0.4, 0.5)))
    assert choice.settings == {"INPUT.RANDOM_FLIP_VERTICAL": True}


def test_objects_are_as_large_as_their_share_of_the_image():
    # Portraits and landscapes: 48 px of a shorter side of 480 px everywhere, whatever the images' medians are.
    choice = input_rules.resolution(draft(shares=(0.1,) * 5, height=640, width=480))
    assert choice.settings["INPUT.MIN_SIZE_TRAIN"][2] == 32 * round(input_rules.READABLE / 0.1 / 32)
