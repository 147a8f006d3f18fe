"""Values of strangers."""

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
def test_no_value_raises_and_the_result_can_be_a_key(function):
    for value in ODD:
        hash(function(value))


def test_ids_in_any_writing():
    assert (
        as_id("7") == as_id(7) == as_id(7.0) == 7
        and as_id(2**60) == 2**60
        and as_id("007") == "007"
        and as_id(1e300) == "1e+300"
    )
    assert as_id("9" * 30) == "9" * 30 and as_id(-3) == -3 == as_id("-3")


def test_sizes_that_are_none():
    assert [as_size(v) for v in (0, -1, None, "", "abc", 0.5, math.nan, 10**9, True)] == [None] * 9


def test_names():
    assert (
        as_name("Kä\u0308fer".replace("ä", "a")) == "Käfer"
        and as_name("a\n b") == "a b"
        and as_name(False) == "false"
        and as_name(["a"]) is None
    )


def test_spelling():
    assert spelled_alike(["cat", "dog"]) == [] and spelled_alike(["Cat", "cat", "CAT"]) == [["Cat", "cat", "CAT"]]
