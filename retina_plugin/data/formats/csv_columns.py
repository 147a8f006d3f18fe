"""The columns of a table of boxes, by the names in its header."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from retina_plugin.data.image_files import SUFFIXES
from retina_plugin.data.problems import shown
from retina_plugin.data.values import as_number

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
