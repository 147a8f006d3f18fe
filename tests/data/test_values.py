"""Conversion of third-party values of any type."""

import math

import pytest

from retina_plugin.data.values import as_flag, as_id, as_name, as_number, as_size, spelled_alike

ODD = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    math.nan,
    math.inf,
    10**400,
    -(10**400),
    "",
    " ",
    "nan",
    "1e400",
    "0x10",
    "1_0",
    "١٢",
    "\ud800",
    "a\0b",
    "x" * 10_000,
    b"1",
    [],
    [1],
    {},
    {"a": 1},
    (1,),
    object(),
]


@pytest.mark.parametrize("function", [as_number, as_size, as_flag, as_id, as_name])
def test_no_value_raises_and_every_result_is_hashable(function):
    for value in ODD:
        hash(function(value))


def test_ids_are_equal_however_they_are_written():
    assert as_id("7") == as_id(7) == as_id(7.0) == 7
    assert [as_id(value) for value in (2**60, "007", 1e300)] == [2**60, "007", "1e+300"]
    assert as_id("9" * 30) == "9" * 30 and as_id(-3) == -3 == as_id("-3")


def test_unusable_sizes_are_none():
    assert [as_size(v) for v in (0, -1, None, "", "abc", 0.5, math.nan, 10**9, True)] == [None] * 9


def test_names_are_composed_and_on_one_line():
    assert as_name("Ka\u0308fer") == "K\u00e4fer"
    assert [as_name(value) for value in ("a\n b", False, ["a"])] == ["a b", "false", None]


def test_names_with_almost_the_same_spelling_are_grouped():
    assert spelled_alike(["cat", "dog"]) == [] and spelled_alike(["Cat", "cat", "CAT"]) == [["Cat", "cat", "CAT"]]
