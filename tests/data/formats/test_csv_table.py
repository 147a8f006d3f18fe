"""Separators, lines and boxes of a table; whole files are tested in test_csv.py."""

import pytest

from retina_plugin.data.formats.csv_table import Table, cell_of

HEADER = "image,x1,y1,x2,y2,label"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_the_one_that_yields_known_columns(separator):
    table = Table(f"{HEADER}\na.png,1,2,3,4,cat\n".replace(",", separator))
    ((number, cells),) = table.rows()
    assert (table.separator, number, cells) == (separator, 2, ["a.png", "1", "2", "3", "4", "cat"])
    assert table.box_of(cells) == [1, 2, 3, 4]


def test_a_line_break_in_quotes_continues_the_line():
    table = Table(f'{HEADER}\n"a\nb.png",1,2,3,4,cat\n\nc.png,1,2,3,4,cat\n')
    assert [(number, cells[0]) for number, cells in table.rows()] == [(2, "a\nb.png"), (5, "c.png")]


def test_a_header_that_is_repeated_is_recognised():
    table = Table(f"{HEADER}\n{HEADER}\n")
    ((_, cells),) = table.rows()
    assert table.is_header(cells) and not table.is_header(["a.png", *cells[1:]])


@pytest.mark.parametrize(("text", "number"), [("1,5", 1.5), ("1.5", 1.5), ("1,5,0", None), ("1.000,5", None)])
def test_a_decimal_comma_is_read_if_it_does_not_separate_cells(text, number):
    assert Table(f"{HEADER}\n".replace(",", ";")).number(text) == number
    assert Table(f"{HEADER}\n").number("1,5") is None


def test_empty_cells_are_no_box():
    table = Table(f"{HEADER}\n")
    assert table.box_of(["a.png", "", "NaN", "null", " ", ""]) is None and table.box_of(["a.png"]) is None
    assert "got 1, (nothing), 3, 4" in table.box_of(["a.png", "1", "", "3", "4", "cat"])
    assert cell_of(["a "], 0) == "a" and cell_of(["a"], 1) == "" and cell_of(["a"], None) == ""
