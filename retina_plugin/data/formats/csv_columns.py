"""Tables of boxes: detect the separator and the columns, and read the box of a line."""

import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from retina_plugin.data.image_files import SUFFIXES
from retina_plugin.data.problems import shown
from retina_plugin.data.values import as_number

SEPARATORS = (",", ";", "\t", "|")

NAMES = {
    "file": (
        "filename",
        "file",
        "image",
        "imagename",
        "imagepath",
        "imagefile",
        "imagefilename",
        "filepath",
        "path",
        "img",
        "imgname",
        "imgpath",
        "fname",
        "imageid",
        "imgid",
    ),
    "class": (
        "class",
        "classname",
        "label",
        "labelname",
        "category",
        "categoryname",
        "celltype",
        "object",
        "objectname",
        "species",
        "type",
        "name",
        "classes",
        "labels",
        "cls",
        "classid",
        "labelid",
        "categoryid",
    ),
    "x1": ("xmin", "x1", "left", "minx", "xtl"),
    "y1": ("ymin", "y1", "top", "miny", "ytl"),
    "x2": ("xmax", "x2", "right", "maxx", "xbr"),
    "y2": ("ymax", "y2", "bottom", "maxy", "ybr"),
    "x": ("x", "xmin", "left", "x1", "minx", "xtl"),
    "y": ("y", "ymin", "top", "y1", "miny", "ytl"),
    "xc": ("xcenter", "xcentre", "cx", "xc", "centerx", "centrex"),
    "yc": ("ycenter", "ycentre", "cy", "yc", "centery", "centrey"),
    "w": ("bboxwidth", "boxwidth", "bboxw", "boxw", "bbw", "w", "width"),
    "h": ("bboxheight", "boxheight", "bboxh", "boxh", "bbh", "h", "height"),
    "list": ("bbox", "boundingbox"),
    "shape": ("regionshapeattributes",),
    "attributes": ("regionattributes",),
    "width": ("imagewidth", "imgwidth", "imagew", "imgw", "originalwidth", "width"),
    "height": ("imageheight", "imgheight", "imageh", "imgh", "originalheight", "height"),
    "split": ("split", "set", "subset"),
    "crowd": ("isgroupof", "iscrowd", "crowd", "difficult"),
}
"""Names of each column in existing files, in lower case, letters and digits only; the first that is present is used."""

BOXES = {
    "corners": ("x1", "y1", "x2", "y2"),
    "size": ("x", "y", "w", "h"),
    "centre": ("xc", "yc", "w", "h"),
    "list": ("list",),
    "via": ("shape", "attributes"),
}
"""The columns of each way to write a box, in the order in which they are tried."""

WITHOUT_CLASS = {
    "source",
    "confidence",
    "score",
    "id",
    "index",
    "depth",
    "channels",
    "area",
    "isoccluded",
    "istruncated",
    "isdepiction",
    "isinside",
    "occluded",
    "truncated",
    "pose",
}
"""Columns that are never the class."""

NOTHING = {"", "nan", "none", "null", "na", "n/a"}
"""Contents that mean an empty cell, in lower case."""


FROM_ZERO = {"x0": "x1", "y0": "y1", "x1": "x2", "y1": "y2"}
"""Names of corners that are counted from 0, and the usual names."""

PREFIX = re.compile(r"^(bbox|box|bb|roi)(?=[a-z])")
"""Prefix that the sides of a box may have."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Args:
        box: how boxes are written, a key of ``BOXES``.
        where: index of each column, by the keys of ``NAMES``.
        count: number of columns; 0: there is no header.
    """

    box: str
    where: dict[str, int]
    count: int


KERAS_RETINANET = Columns("corners", {name: i for i, name in enumerate(("file", "x1", "y1", "x2", "y2", "class"))}, 0)
"""Columns of a file without a header (https://github.com/fizyr/keras-retinanet#csv-datasets).

A line that is empty after the first column is an image without objects.
"""


def columns_of(cells: list[str]) -> Columns | str | None:
    """Return the columns that the first line of a file defines.

    Args:
        cells: cells of the line.

    Returns:
        The columns, the reason why a table of boxes cannot be read, or None if it is not a table of boxes.

    Example:
        >>> columns_of("filename,cell_type,xmin,xmax,ymin,ymax".split(",")).where
        {'x1': 2, 'y1': 4, 'x2': 3, 'y2': 5, 'file': 0, 'class': 1}
        >>> columns_of("a.jpg,1,2,3,4,cat".split(",")) is KERAS_RETINANET, columns_of(["epoch", "loss"])
        (True, None)
    """
    if _is_keras_retinanet(cells):
        return KERAS_RETINANET
    plain = [re.sub(r"[^0-9a-z]", "", cell.lower()) for cell in cells]
    short = [PREFIX.sub("", name) for name in plain]
    if "x0" in short and "x1" in short and "x2" not in short:
        plain = short = [FROM_ZERO.get(name, full) for full, name in zip(plain, short, strict=True)]
    found = _box_columns(plain, short)
    if found is None:
        return _reason_without_box(cells, plain, short)
    box, where = found
    for key in ("file", "class", "width", "height", "split", "crowd"):
        place = _place(key, plain, short, set(where.values()))
        if place is not None:
            where[key] = place
    if "file" not in where:
        # "name" was taken for the class; if another column is the class, it is the image.
        if "class" not in where or plain[where["class"]] == "name" or "name" not in plain:
            return f"has the columns {_listed(cells)}; none is the image (filename, image, image_path, image_id, ...)"
        where["file"] = plain.index("name")
    if "class" not in where and box != "via" and _may_have_class(cells, plain, set(where.values())):
        return f"has the columns {_listed(cells)}; none is the class (class, label, category, ...)"
    return Columns(box, where, len(cells))


def _box_columns(plain: list[str], short: list[str]) -> tuple[str, dict[str, int]] | None:
    """Return the first way to write a box whose columns are all present, and their places; None if there is none."""
    for box, keys in BOXES.items():
        places = {key: _place(key, plain, short, set()) for key in keys}
        where = {key: place for key, place in places.items() if place is not None}
        if len(where) == len(keys):
            return box, where
    return None


def _reason_without_box(cells: list[str], plain: list[str], short: list[str]) -> str | None:
    """Return why a table that seems to have boxes cannot be read; None if it does not seem to have any."""
    sides = sum(_place(key, plain, short, set()) is not None for key in ("x1", "y1", "x2", "y2", "xc", "yc"))
    if sides < 2 and not any(name.startswith(("bbox", "boundingbox", "boxes")) for name in plain):
        return None
    return (
        f"has the columns {_listed(cells)}; no four of them are the sides of a box "
        "(xmin, ymin, xmax, ymax, or x, y, width, height)"
    )


def _may_have_class(cells: list[str], plain: list[str], used: set[int]) -> bool:
    """Return whether a column that is not used may hold the class under an unknown name."""
    return any(
        i not in used and name not in WITHOUT_CLASS and cell.strip() and not name.startswith("unnamed")
        for i, (cell, name) in enumerate(zip(cells, plain, strict=True))
    )


def _place(key: str, plain: list[str], short: list[str], taken: set[int]) -> int | None:
    """Return the index of the column for a key, or None.

    Args:
        key: of ``NAMES``.
        plain: names of the columns.
        short: the same without a prefix such as "bbox", which is tried for the sides of a box, too.
        taken: columns that are used for something else.
    """
    is_side = any(key in keys for keys in BOXES.values())
    for name in NAMES[key]:
        for words in (plain, short) if is_side else (plain,):
            if name in words and words.index(name) not in taken:
                return words.index(name)
    return None


def _is_keras_retinanet(cells: list[str]) -> bool:
    """Return whether a line has keras-retinanet's six columns: a path, four numbers or nothing, a class."""
    cells = [cell.strip() for cell in cells]
    if len(cells) < 6 or any(cells[6:]) or as_number(cells[0]) is not None:
        return False
    numbers = [as_number(cell) is not None for cell in cells[1:5]]
    return all(numbers) or (not any(cells[1:5]) and PurePosixPath(cells[0]).suffix.lower() in SUFFIXES)


def _listed(cells: list[str]) -> str:
    """Return the first cells of a header, for a message."""
    names = [shown(cell.strip() or "(no name)", most=40) for cell in cells[:30]]
    if len(cells) > 30:
        names.append("...")
    return ", ".join(names)


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
