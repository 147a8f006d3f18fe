"""How much of each part of the detector a weights file holds."""

from retina_plugin.engine.parts import Part, loading_summary, loading_table, part_of, parts_loaded

NAMES = ["backbone.bottom_up.a", "backbone.b", "head.c", "head.d", "loss_normalizer"]


def test_the_bottom_up_network_is_not_part_of_the_neck():
    assert [part_of(name) for name in NAMES] == ["backbone", "neck", "head", "head", "rest"]


def test_a_complete_file_gets_one_line_per_part():
    assert loading_table(parts_loaded(NAMES, [], []), []).splitlines() == [
        "backbone     1 of 1     tensors loaded",
        "neck         1 of 1     tensors loaded",
        "head         2 of 2     tensors loaded",
        "rest         1 of 1     tensors loaded",
    ]


def test_missing_and_misfitting_tensors_are_counted():
    parts = parts_loaded(NAMES, ["head.c"], ["head.d"])
    assert parts[2] == Part("head", total=2, absent=1, misfit=1) and parts[2].loaded == 0
    assert "1 not in the file, 1 with a different shape there: they stay as initialised" in parts[2].line()


def test_of_many_unused_names_the_first_four_are_listed():
    assert loading_table([], list("abcdef")) == "not used from the file: a, b, c, d and 2 more"


def test_the_summary_is_one_line_and_counts_every_tensor():
    whole, absent = Part("backbone", 5, 0, 0), Part("head", 3, 3, 0)
    assert loading_summary([whole, Part("head", 3, 0, 0)]) == "all 8 tensors"
    assert loading_summary([whole, absent]) == "backbone (5 tensors) from the file; head (3) as initialised"
