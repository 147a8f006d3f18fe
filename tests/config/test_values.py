"""Rules for the values of single keys."""

import math

import pytest

from retina_plugin.config.values import Choice, Flag, Number, OrNone, Several, Slot, Text, plain

ABOVE = Number(float, 0, open_low=True)
SHARE = Number(float, 0, 1)
COUNT = Number(int, 1, 32)


@pytest.mark.parametrize(
    "rule, good, bad",
    [
        (ABOVE, [1e-9, 2, 1e30], [0, 0.0, -1, math.inf, -math.inf, math.nan, True, "1", None, [1.0], 1j]),
        (SHARE, [0, 1, 0.5], [-1e-9, 1.0001, math.nan, False]),
        (Number(float, 0, 1, open_low=True, open_high=True), [0.5], [0, 1, 0.0, 1.0]),
        (COUNT, [1, 32], [0, 33, 1.0, True, "1"]),
        (Choice(("a", "")), ["a", ""], ["A", "b", None, 0]),
        (Choice((-1, 0, 1)), [0, 1], [True, 0.0, 2]),
        (Flag(), [True, False], [1, 0, "True", None]),
        (Text("a name", empty=False), ["x"], ["", 1, None, "a\0b"]),
        (Several(COUNT, 1, 2), [[1], (1, 2)], [[], [1, 2, 3], "1", 1, None, [0], {1: 2}]),
        (Several(Several(SHARE, 1)), [[], [[0.5]], ((0,), (1,))], [[[]], [0.5], [[2]]]),
        (OrNone(SHARE, "as before"), [None, 0.5], [2, "None"]),
    ],
)  # fmt: skip
def test_a_rule_allows_good_values_and_refuses_bad_ones(rule, good, bad):
    assert [value for value in good if not rule.allows(value)] == []
    assert [value for value in bad if rule.allows(value)] == []


BELOW = Number(float, 0, 1, open_high=True)


@pytest.mark.parametrize(
    "rule", [ABOVE, SHARE, COUNT, BELOW, Choice(("a", "")), Flag(), Several(SHARE, 2), OrNone(COUNT, "as before")]
)
def test_examples_are_allowed_and_include_both_ends(rule):
    assert rule.examples() and all(rule.allows(value) for value in rule.examples())
    assert SHARE.examples() == [0.0, 1.0] and COUNT.examples() == [1, 32]


def test_a_rule_describes_what_it_allows():
    assert ABOVE.says() == "a finite number above 0"
    assert COUNT.says() == "an integer at least 1 and at most 32"
    assert Choice(("", "BN")).says() == "one of '', BN" and Choice((2,)).says() == "2"
    assert Number(int, -(2**31)).says() == "an integer at least -2147483648"
    assert Text("a name", empty=False).says() == "a name (not empty)"
    assert Several(SHARE, 4, 4).says() == "a list of 4, each a finite number at least 0 and at most 1"
    assert Several(SHARE, 1).says().startswith("a list of 1 or more, each")
    assert OrNone(Flag(), "as before").says() == "None (as before) or True or False"


@pytest.mark.parametrize(
    "slot, known",
    [
        (Slot("MODEL.RETINANET.ASSIGNER"), "atss"),
        (Slot("MODEL.FPN.TOP_BLOCK"), "max_pool"),
        (Slot("MODEL.BOTTOM_UP.NAME", "BACKBONE_REGISTRY"), "build_resnet_backbone"),
        (Slot("MODEL.ANCHOR_GENERATOR.NAME", "ANCHOR_GENERATOR_REGISTRY"), "PyramidAnchorGenerator"),
    ],
)
def test_a_slot_allows_what_is_registered(slot, known):
    assert slot.allows(known) and known in slot.says() and known in slot.examples()
    assert not slot.allows("nope") and not slot.allows(None) and not slot.allows([known])


def test_values_are_converted_to_the_type_of_the_default():
    assert plain(2, 0.5) == 2.0 and type(plain(2, 0.5)) is float
    assert plain([1, 2], ()) == (1, 2) and plain((1, 2.5), [0.5]) == [1.0, 2.5]
    assert plain(True, 0.5) is True and plain("2", 0.5) == "2" and plain(2.0, 1) == 2.0
