"""The survey of a table; recognition of whole folders is tested in test_csv.py."""

import pytest

from retina_plugin.data.formats.csv_columns import Columns
from retina_plugin.data.formats.csv_survey import is_fraction, survey_of
from retina_plugin.data.formats.csv_table import Table


def survey(text):
    table = Table(text)
    assert isinstance(table.columns, Columns)
    return survey_of(table, table.columns)


def test_images_classes_and_splits_are_collected():
    found = survey("set,image,x1,y1,x2,y2,label\nTRAIN,a.png,1,2,3,4,cat\nx,b.png,1,2,3,4,dog\nTRAIN,a.png,,,,,\n")
    assert (list(found.names), found.classes, found.boxes) == (["a.png", "b.png"], {"cat", "dog"}, 2)
    assert (list(found.splits), list(found.other_splits)) == (["train"], ["x"])
    assert "'x'" in found.reason_against()


def test_a_table_without_columns_of_classes_and_splits_has_one_class_and_no_split():
    found = survey("image,x1,y1,x2,y2\na.png,1,2,3,4\n")
    assert (found.classes, list(found.splits), found.reason_against()) == ({"object"}, [None], None)


@pytest.mark.parametrize(
    ("boxes", "are_fractions"),
    [
        ([".1,.1,.5,.5"], True),
        (["0,0,1,1"], False),
        ([".1,.1,.5,.5"] * 9 + ["1,1,20,20"], True),
        ([".1,.1,.5,.5"] * 8 + ["1,1,20,20"] * 2, False),
    ],
)
def test_boxes_are_fractions_if_nine_of_ten_are_within_0_and_1(boxes, are_fractions):
    assert survey("".join(f"a.png,{box},cat\n" for box in boxes)).are_fractions() == are_fractions


def test_a_fraction_has_a_value_that_is_not_whole():
    assert is_fraction([0, 0, 1, 0.5]) and not is_fraction([0, 0, 1, 1]) and not is_fraction([0.5, 0.5, 1, 2])
    assert not is_fraction([float("nan"), 0, 0.5, 0.5])
