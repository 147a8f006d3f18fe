"""All rules: a subject of the user is left alone."""

import pytest
from drafts import draft, record, symmetry

from retina_plugin.plan import rules
from retina_plugin.plan.budget import Budget, Speed
from retina_plugin.plan.plan import _ask

ALL = [*rules.RULES, *rules.AFTER_MEASURING]
NAMES = [rule.choose.__name__ for rule in ALL]


def rich(**changes):
    """Return a draft for which every rule about the training and most about the input choose something."""
    facts = {"most": 500, "empty": 0.9, "images_with": {"a": 150, "b": 5}, "symmetry": symmetry(0.5), "crowded": 0.5}
    some = [record([x, 100, x + 12, 112]) for x in range(0, 600, 20)]
    speed = Speed(train=0.5, test=0.05, memory=6 * 2**30)
    budget = Budget(minutes=5, memory=2**30)
    keys = {"INPUT.MIN_SIZE_TRAIN": [640], "INPUT.MAX_SIZE_TRAIN": 854}
    return draft(*some, budget=budget, speed=speed, keys=keys, sides=(40,) * 5, **{**facts, **changes})


@pytest.mark.parametrize("rule", ALL, ids=NAMES)
def test_a_rule_sets_keys_of_its_subject_only_and_none_if_the_user_set_one(rule):
    first = rich()
    if rule.choose.__name__ == "anchors_again":
        _ask(first, rules.AFTER_MEASURING[:1])
    found = rule.choose(first)
    keys = [key for choice in (found if isinstance(found, list) else [found]) for key in choice.settings]
    assert keys, "the facts are such that every rule chooses something"
    for key in keys:
        some = rich(given=[key])
        before = dict(some.settled)
        _ask(some, [rule])
        assert key not in {name for choice in some.choices for name in choice.settings}
        if rule.choose.__name__ != "epochs":  # whose other keys follow the number that was given
            other = {"TEST.VALIDATION_LOSS", "MODEL.RETINANET.LEVELS"}
            assert some.settled == before or key in other, (key, some.choices)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("TEST.TILES.SIZE", "INPUT.TILES.SIZE"),
        ("INPUT.CROP.ENABLED", "INPUT.MIN_SIZE_TRAIN"),
        ("INPUT.RANDOM_FLIP", "INPUT.ROTATE_90"),
        ("MODEL.RETINANET.NMS_THRESH_TEST", "MODEL.RETINANET.SOFT_NMS"),
        ("MODEL.WEIGHTS", "MODEL.ANCHOR_GENERATOR.SCALE"),
        ("MODEL.WEIGHTS", "MODEL.RETINANET.HEAD_NAME"),
        ("MODEL.CLS_LOSS.QUALITY_BETA", "MODEL.RETINANET.CLS_LOSS"),
        ("TEST.EARLY_STOP_PATIENCE", "TEST.EVAL_EPOCHS"),
    ],
)
def test_a_key_of_the_user_keeps_what_would_contradict_it(given, kept):
    some = rich(given=[given])
    _ask(some, ALL)
    assert kept not in {name for choice in some.choices for name in choice.settings}
