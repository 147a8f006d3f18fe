"""Tables of boxes: which separator, which columns, and the box of a line."""

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
"""What a column is called in the files people have, in lower case and without all but letters and digits; the first that is there counts."""

BOXES = {
    "corners": ("x1", "y1", "x2", "y2"),
    "size": ("x", "y", "w", "h"),
    "centre": ("xc", "yc", "w", "h"),
    "list": ("list",),
    "via": ("shape", "attributes"),
}
"""The ways to write a box, in the order in which they are looked for."""

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
"""Columns that are not the class, whatever they hold."""

NOTHING = {"", "nan", "none", "null", "na", "n/a"}
"""What an empty cell may hold, in lower case."""


@dataclass(frozen=True)
class Columns:
    """Where things stand in a line.

    Args:
        box: how boxes are written, a key of ``BOXES``.
        where: by the keys of ``NAMES``.
        count: of columns; 0: there is no header.
    """

    box: str
    where: dict[str, int]
    count: int


KERAS_RETINANET = Columns("corners", {name: i for i, name in enumerate(("file", "x1", "y1", "x2", "y2", "class"))}, 0)
"""Of a file without a header (https://github.com/fizyr/keras-retinanet#csv-datasets); empty after the first: no objects."""


def columns_of(cells: list[str]) -> Columns | str | None:
    """What the first line of a file says: its columns, or why it is a table of boxes that cannot be read, or None: it is none.

    Example:
        >>> columns_of("filename,cell_type,xmin,xmax,ymin,ymax".split(",")).where
        {'x1': 2, 'y1': 4, 'x2': 3, 'y2': 5, 'file': 0, 'class': 1}
        >>> columns_of("a.jpg,1,2,3,4,cat".split(",")) is KERAS_RETINANET, columns_of(["epoch", "loss"])
        (True, None)
    """
    if _is_keras_retinanet(cells):
        return KERAS_RETINANET
    plain = [re.sub(r"[^0-9a-z]", "", cell.lower()) for cell in cells]
    short = [re.sub(r"^(bbox|box|bb|roi)(?=[a-z])", "", name) for name in plain]
    if "x0" in short and "x1" in short and "x2" not in short:  # counted from 0
        plain = [{"x0": "x1", "y0": "y1", "x1": "x2", "y1": "y2"}.get(s, p) for p, s in zip(plain, short, strict=True)]
        short = plain
    box, where = None, {}
    for box, keys in BOXES.items():
        where = {key: _place(key, plain, short, set()) for key in keys}
        if None not in where.values():
            break
    else:
        seen = sum(_place(key, plain, short, set()) is not None for key in ("x1", "y1", "x2", "y2", "xc", "yc"))
        alike = any(name.startswith(("bbox", "boundingbox", "boxes")) for name in plain)
        return (
            f"has the columns {_listed(cells)}; no four of them are the sides of a box (xmin, ymin, xmax, ymax, or x, y, width, height)"
            if seen >= 2 or alike
            else None
        )
    for key in ("file", "class", "width", "height", "split", "crowd"):
        place = _place(key, plain, short, set(where.values()))
        if place is not None:
            where[key] = place
    if "file" not in where:
        if "class" not in where or plain[where["class"]] == "name" or "name" not in plain:
            return f"has the columns {_listed(cells)}; none is the image (filename, image, image_path, image_id, ...)"
        where["file"] = plain.index("name")
    if "class" not in where and box != "via":
        used = set(where.values())
        others = [
            cell
            for i, cell in enumerate(cells)
            if i not in used and plain[i] not in WITHOUT_CLASS and cell.strip() and not plain[i].startswith("unnamed")
        ]
        if others:
            return f"has the columns {_listed(cells)}; none is the class (class, label, category, ...)"
    return Columns(box, where, len(cells))


def _place(key: str, plain: list[str], short: list[str], taken: set[int]) -> int | None:
    """The column that a key means; for a side of a box also without "bbox" before its name."""
    for name in NAMES[key]:
        for words in (plain, short) if any(key in keys for keys in BOXES.values()) else (plain,):
            if name in words and words.index(name) not in taken:
                return words.index(name)
    return None


def _is_keras_retinanet(cells: list[str]) -> bool:
    """Six columns: a path, four numbers or nothing, a class."""
    cells = [cell.strip() for cell in cells]
    if len(cells) < 6 or any(cells[6:]) or as_number(cells[0]) is not None:
        return False
    numbers = [as_number(cell) is not None for cell in cells[1:5]]
    return all(numbers) or (not any(cells[1:5]) and PurePosixPath(cells[0]).suffix.lower() in SUFFIXES)


def _listed(cells: list[str]) -> str:
    return ", ".join(shown(cell.strip() or "(no name)", most=40) for cell in cells[:30]) + (
        ", ..." if len(cells) > 30 else ""
    )


class Table:
    """The text of a CSV file.

    Attributes:
        columns: what its header says; see :func:`columns_of`.
        header: its first line, in cells.
    """

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline=None).read().split("\n")
        self._first, self.separator, self.header = 0, ",", []
        self.columns: Columns | str | None = None
        for number, line in enumerate(self._lines[:1000]):
            if (stated := re.fullmatch(r"\s*sep=(.)\s*", line)) or not line.strip():
                self.separator = stated[1] if stated else self.separator
                continue
            comment = line.lstrip().startswith("#")
            self._understand(line.lstrip().lstrip("#") if comment else line)
            if not comment or isinstance(self.columns, Columns):
                self._places = (
                    tuple(self.columns.where[key] for key in BOXES[self.columns.box])
                    if isinstance(self.columns, Columns)
                    else ()
                )
                self._first = number + (1 if not isinstance(self.columns, Columns) or self.columns.count else 0)
                return

    def _understand(self, line: str) -> None:
        """Take the separator by which a line is a header; else the one that makes most of it."""
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
        """Number and cells of every line below the header that is not empty, or what is wrong with it."""
        i, lines, columns = self._first, self._lines, self.columns
        count = columns.count if isinstance(columns, Columns) else 0
        while i < len(lines):
            line, number = lines[i], i + 1
            i += 1
            if not line.strip():
                continue
            cells: list[str] | str = _cells(line, self.separator)
            if line.count('"') % 2 and isinstance(cells, str):
                for more in range(1, 20):  # a line break inside of quotes
                    joined = (
                        _cells("\n".join(lines[i - 1 : i + more]), self.separator) if i + more <= len(lines) else ""
                    )
                    if isinstance(joined, list) and len(joined) == (count or 6):
                        cells, i = joined, i + more
                        break
            if isinstance(cells, list) and 0 < count < len(cells) and any(cell.strip() for cell in cells[count:]):
                cells = f"has {len(cells)} columns, where the header has {count}"
            if isinstance(cells, str) or any(cell.strip() for cell in cells):
                yield number, cells

    def is_header(self, cells: list[str]) -> bool:
        """Whether a line repeats the header."""
        return (
            self.columns.count == len(cells)
            and cells[0].strip() == self.header[0]
            and [cell.strip() for cell in cells] == self.header
        )

    def number(self, cell: str) -> float | None:
        """A number of a cell; with a decimal comma where that is not the separator."""
        number = as_number(cell)
        if number is None and self.separator != "," and cell.count(",") == 1 and "." not in cell:
            return as_number(cell.replace(",", "."))
        return number

    def box_of(self, cells: list[str]) -> list[float] | str | None:
        """XYXY of a line, or what is wrong with it; None: it has no box, and says so by empty cells. Not for boxes of VIA."""
        kind = self.columns.box
        try:
            texts = [cells[place] for place in self._places]
        except IndexError:
            texts = [cell_of(cells, place) for place in self._places]
        if kind == "list":
            numbers = [as_number(text) for text in re.split(r"[\s,;]+", texts[0].strip("[](){} \t"))]
        else:
            numbers = [self.number(text) for text in texts]
        if len(numbers) != 4 or None in numbers or not math.isfinite(sum(numbers)):
            if all(text.strip().lower() in NOTHING for text in texts):
                return None
            if len(numbers) != 4 or None in numbers:
                wanted = "[x, y, width, height]" if kind == "list" else ", ".join(BOXES[kind])
                return f"box must be four numbers ({wanted}), got {', '.join(shown(text.strip() or '(nothing)', most=40) for text in texts)}"
        a, b, c, d = numbers
        if kind == "corners":
            return numbers
        return [a - c / 2, b - d / 2, a + c / 2, b + d / 2] if kind == "centre" else [a, b, a + c, b + d]


def cell_of(cells: list[str], place: int | None) -> str:
    """A cell without space around it; empty where a line has none."""
    return cells[place].strip() if place is not None and place < len(cells) else ""


def _cells(line: str, separator: str) -> list[str] | str:
    """The cells of one line, or what is wrong with it."""
    if '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader((line,), delimiter=separator, skipinitialspace=True, strict=line.count('"') % 2 == 1))
    except csv.Error as error:
        return f"cannot be split into columns: {error}"
    except StopIteration:
        return []
