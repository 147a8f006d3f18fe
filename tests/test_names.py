"""Names from third-party files are plain text everywhere."""

import logging

import matplotlib.pyplot as plt
import pytest

from retina_plugin.engine.console import text as console_text
from retina_plugin.evaluation import format_results
from retina_plugin.names import markdown_cell, one_line, plain_label

NAMES = [
    "$",
    "$x$",
    "a$b",
    "$\\frac{",
    "a|b",
    "a\nb",
    "a\r\nb",
    "\x1b[31mred\x1b[0m",
    "\x07",
    "\u202egpj",
    "<b>x</b>",
    "*a* _b_ `c`",
    "[x](y)",
    "\\",
    "é漢字",
    "",
    "a\u2028b",
    "a\x9bb",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_a_result_table_stays_one_row(name):
    rows = format_results({"bbox": {"AP": 1.0, f"AP-{name}": 1.0, "AP-other": 2.0}}, name).splitlines()
    assert len([row for row in rows if row.startswith("| ")]) == 2 + 3
    for row in rows[-2:]:
        cells = row.replace("\\\\", "").replace("\\|", "").count("|")
        assert cells == 3
    assert "\x1b" not in "".join(rows) and "\x9b" not in "".join(rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_shows_a_name_verbatim(name):
    figure, axes = plt.subplots(figsize=(1, 1))
    axes.set_title(plain_label(name))
    axes.set_yticks([0, 1], [plain_label(name), "b"])
    figure.canvas.draw()
    plt.close(figure)


def test_control_characters_are_escaped():
    assert one_line("a\x1b[2Jb\nc\td") == r"a\x1b[2Jb\nc\td" and one_line("é漢字$|") == "é漢字$|"
    assert markdown_cell("a|b\\c") == r"a\|b\\c"


def test_a_log_line_keeps_its_line_breaks_and_escapes_its_arguments():
    record = logging.LogRecord("retina_plugin", logging.INFO, "", 0, "two\nlines of %s", ("\x1b[31m",), None)
    assert console_text(record) == "two\nlines of \\x1b[31m"
