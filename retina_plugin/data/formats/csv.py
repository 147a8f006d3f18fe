"""CSV: a line a box. With a header in any order, or keras-retinanet's ``path,x1,y1,x2,y2,class`` without one."""

import csv
from pathlib import Path

from detectron2.structures import BoxMode

from retina_plugin.data.formats.base import FORMAT_REGISTRY, ReadResult, split_path
from retina_plugin.data.image_files import size_of
from retina_plugin.data.problems import Problem, checked_box

COLUMNS = {
    "file": ("filename", "file_name", "file", "image", "image_name", "image_path", "path", "img", "img_path", "image_id"),
    "class": ("class", "class_name", "label", "label_name", "category", "category_name", "cell_type", "name", "object"),
    "x1": ("xmin", "x_min", "x1", "left", "x0"),
    "y1": ("ymin", "y_min", "y1", "top", "y0"),
    "x2": ("xmax", "x_max", "x2", "right"),
    "y2": ("ymax", "y_max", "y2", "bottom"),
}
"""What a column is called in the files people have, in lower case; the first found counts."""

KERAS_RETINANET = ("file", "x1", "y1", "x2", "y2", "class")
"""Columns of a file without a header (https://github.com/fizyr/keras-retinanet#csv-datasets); empty after the first: no objects."""


@FORMAT_REGISTRY.register("csv")
def read_csv(root: Path, split: dict, classes: list[str]) -> ReadResult:
    """Read ``split["annotations"]`` (CSV); images lie below ``split["images"]``, sizes are read from them.

    Raises:
        FileNotFoundError: the file or the folder does not exist.
        ValueError: the header lacks a column.
    """
    file, images_dir = split_path(root, split, "annotations"), split_path(root, split, "images")
    result, records, broken = ReadResult(), {}, set()
    for number, row in csv_rows(file):
        name = (row["file"] or "").strip()
        if name not in records and name not in broken:
            try:
                height, width = size_of(images_dir / name)
            except OSError as error:
                broken.add(name)
                result.problems.append(Problem(str(file), f"image {images_dir / name} cannot be read: {error}", name, f"line {number}"))
                continue
            records[name] = {"file_name": str(images_dir / name), "height": height, "width": width, "image_id": name, "annotations": []}
        if name in records and any(row[key] for key in ("class", "x1", "y1", "x2", "y2")):
            _add_row(records[name], row, number, classes, str(file), result.problems)
    result.records = list(records.values())
    return result


def csv_rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, {"file", "class", "x1", "y1", "x2", "y2"}) of every line.

    Raises:
        ValueError: the header lacks a column, or a file without a header has fewer than six.
    """
    with open(file, newline="", encoding="utf-8-sig", errors="replace") as stream:
        lines = [(number, row) for number, row in enumerate(csv.reader(stream), start=1) if any(cell.strip() for cell in row)]
    if not lines:
        raise ValueError(f"{file} is empty")
    where = csv_columns(lines[0][1])
    if where is None:
        where, rows = {name: i for i, name in enumerate(KERAS_RETINANET)}, lines
        if len(lines[0][1]) < len(KERAS_RETINANET):
            raise ValueError(f"{file} has neither a header nor the columns {', '.join(KERAS_RETINANET)}; its first line is {','.join(lines[0][1])!r}")
    else:
        rows = lines[1:]
        if missing := [name for name in COLUMNS if name not in where]:
            raise ValueError(f"{file} has the columns {', '.join(lines[0][1])}; none is the {' or the '.join(missing)} (known: {'; '.join(', '.join(COLUMNS[m][:4]) for m in missing)})")
    return [(number, {name: row[i].strip() if i < len(row) else "" for name, i in where.items()}) for number, row in rows]


def csv_columns(first: list[str]) -> dict[str, int] | None:
    """Where each column stands, from the first line of a file; None if that is no header.

    Example:
        >>> csv_columns("filename,cell_type,xmin,xmax,ymin,ymax".split(","))
        {'file': 0, 'class': 1, 'x1': 2, 'y1': 4, 'x2': 3, 'y2': 5}
        >>> csv_columns("a.jpg,1,2,3,4,cat".split(",")) is None
        True
    """
    names = [name.strip().lower() for name in first]
    found = {column: next((names.index(name) for name in known if name in names), None) for column, known in COLUMNS.items()}
    where = {column: i for column, i in found.items() if i is not None}
    return where if sum(column in where for column in ("x1", "y1", "x2", "y2")) >= 2 else None


def _add_row(record: dict, row: dict[str, str], number: int, classes: list[str], file: str, problems: list[Problem]) -> None:
    """Append the box of one line, if it can be used."""
    image, line = record["image_id"], f"line {number}"
    if row["class"] not in classes:
        problems.append(Problem(file, f"class {row['class']!r} is not one of the card's: {', '.join(classes)}", image, line))
        return
    try:
        box = [float(row[key]) for key in ("x1", "y1", "x2", "y2")]
    except ValueError:
        problems.append(Problem(file, f"box must be four numbers, got {[row[key] for key in ('x1', 'y1', 'x2', 'y2')]}", image, line))
        return
    usable, problem = checked_box(box, width=record["width"], height=record["height"], file=file, image=image, annotation=line)
    if problem:
        problems.append(problem)
    if usable:
        record["annotations"].append({"bbox": usable, "bbox_mode": BoxMode.XYXY_ABS, "category_id": classes.index(row["class"]), "iscrowd": 0})
