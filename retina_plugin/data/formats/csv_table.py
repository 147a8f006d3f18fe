"""A table of boxes: detect its separator and its columns, and read its lines and their boxes."""

import csv
import io
import math
import re
from collections.abc import Iterator

from retina_plugin.data.formats.csv_columns import BOXES, KERAS_RETINANET, Columns, columns_of
from retina_plugin.data.problems import shown
from retina_plugin.data.values import as_number

SEPARATORS = (",", ";", "\t", "|")

NOTHING = {"", "nan", "none", "null", "na", "n/a"}
"""Contents that mean an empty cell, in lower case."""


class Table:
    """A CSV file.

    Args:
        text: its text.

    Attributes:
        columns: what its header defines; see :func:`columns_of`.
        header: cells of its first line.
        separator: character between the cells of a line.
    """

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline=None).read().split("\n")
        self._first = 0  # index of the first line below the header
        self._places: tuple[int, ...] = ()
        self.separator = ","
        self.header: list[str] = []
        self.columns: Columns | str | None = None
        for index, line in enumerate(self._lines[:1000]):
            stated = re.fullmatch(r"\s*sep=(.)\s*", line)  # as Excel writes it
            if stated:
                self.separator = stated[1]
            if stated or not line.strip():
                continue
            is_comment = line.lstrip().startswith("#")
            self._parse_header(line.lstrip().lstrip("#") if is_comment else line)
            if isinstance(self.columns, Columns):
                self._places = tuple(self.columns.where[key] for key in BOXES[self.columns.box])
                self._first = index + 1 if self.columns.count else index
                return
            if not is_comment:
                self._first = index + 1
                return

    def _parse_header(self, line: str) -> None:
        """Set separator, columns and header: by the separator that yields known columns, else by the most cells."""
        found = []
        for separator in dict.fromkeys((self.separator, *SEPARATORS)):
            cells = _cells(line, separator)
            if isinstance(cells, str):
                continue
            cells = [cell.strip() for cell in cells]
            columns = columns_of(cells)
            found.append((isinstance(columns, Columns), columns is not None, len(cells), columns, separator, cells))
        if found:
            *_, self.columns, self.separator, self.header = max(found, key=lambda entry: entry[:3])

    def rows(self) -> Iterator[tuple[int, list[str] | str]]:
        """Iterate over the lines below the header that are not empty.

        Yields:
            The number of the line, from 1, and its cells, or what is wrong with it.
        """
        count = self.columns.count if isinstance(self.columns, Columns) else 0
        i = self._first
        while i < len(self._lines):
            line, number = self._lines[i], i + 1
            i += 1
            if not line.strip():
                continue
            cells: list[str] | str = _cells(line, self.separator)
            if isinstance(cells, str) and line.count('"') % 2:
                cells, i = self._joined(cells, i, count or len(KERAS_RETINANET.where))
            if isinstance(cells, list) and 0 < count < len(cells) and any(cell.strip() for cell in cells[count:]):
                cells = f"has {len(cells)} columns, but the header has {count}"
            if isinstance(cells, str) or any(cell.strip() for cell in cells):
                yield number, cells

    def _joined(self, reason: str, end: int, count: int) -> tuple[list[str] | str, int]:
        """Read a line that contains a line break inside quotes.

        Args:
            reason: what is wrong with the line alone.
            end: index of the line after it.
            count: number of columns that the joined line must have.

        Returns:
            The cells, or ``reason`` if up to 19 more lines do not complete it, and the index of the line that follows.
        """
        for last in range(end + 1, min(end + 19, len(self._lines)) + 1):
            cells = _cells("\n".join(self._lines[end - 1 : last]), self.separator)
            if isinstance(cells, list) and len(cells) == count:
                return cells, last
        return reason, end

    def is_header(self, cells: list[str]) -> bool:
        """Return whether a line repeats the header."""
        return (
            isinstance(self.columns, Columns)
            and self.columns.count == len(cells)
            and cells[0].strip() == self.header[0]
            and [cell.strip() for cell in cells] == self.header
        )

    def number(self, cell: str) -> float | None:
        """Return the number in a cell, or None; a comma may be its decimal point unless it separates the cells."""
        number = as_number(cell)
        if number is None and self.separator != "," and cell.count(",") == 1 and "." not in cell:
            return as_number(cell.replace(",", "."))
        return number

    def box_of(self, cells: list[str]) -> list[float] | str | None:
        """Return the XYXY box of a line; not for VIA's tables.

        Returns:
            The box, what is wrong with it, or None if its cells are empty: the image has no objects.
        """
        assert isinstance(self.columns, Columns), "only a table with known columns has boxes"
        kind = self.columns.box
        try:
            texts = [cells[place] for place in self._places]
        except IndexError:
            texts = [cell_of(cells, place) for place in self._places]
        if kind == "list":
            parsed = [as_number(text) for text in re.split(r"[\s,;]+", texts[0].strip("[](){} \t"))]
        else:
            parsed = [self.number(text) for text in texts]
        box = [number for number in parsed if number is not None]
        is_complete = len(parsed) == len(box) == 4
        if not is_complete or not math.isfinite(sum(box)):
            if all(text.strip().lower() in NOTHING for text in texts):
                return None
            if not is_complete:
                wanted = "[x, y, width, height]" if kind == "list" else ", ".join(BOXES[kind])
                got = ", ".join(shown(text.strip() or "(nothing)", most=40) for text in texts)
                return f"box must be four numbers ({wanted}), got {got}"
        if kind == "corners":
            return box
        a, b, width, height = box
        if kind == "centre":
            return [a - width / 2, b - height / 2, a + width / 2, b + height / 2]
        return [a, b, a + width, b + height]


def cell_of(cells: list[str], place: int | None) -> str:
    """Return a cell without surrounding space; empty if the line or the table has no such cell."""
    return cells[place].strip() if place is not None and place < len(cells) else ""


def _cells(line: str, separator: str) -> list[str] | str:
    """Return the cells of one line, or what is wrong with it."""
    if '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader((line,), delimiter=separator, skipinitialspace=True, strict=line.count('"') % 2 == 1))
    except csv.Error as error:
        return f"cannot be split into columns: {error}"
    except StopIteration:
        return []
