"""CSV: one box per line. With a header in any order, or keras-retinanet's ``path,x1,y1,x2,y2,class`` without one."""

import csv
import json
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from retina_plugin.data.files import SPLIT_WORDS, Listing, split_of
from retina_plugin.data.formats.base import FORMAT_REGISTRY, AnnotationFormat, Found, Reading, Refused, Source
from retina_plugin.data.formats.coco import folder_of_images
from retina_plugin.data.formats.csv_columns import BOXES, Columns, Table, cell_of
from retina_plugin.data.formats.via_regions import (
    WITHOUT_A_CLASS,
    box_of_shape,
    class_attribute,
    class_of,
    only_class,
    stated_attribute,
    take_region,
)
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_flag, as_id, as_name, as_number, as_size
from retina_plugin.text import read_text

BEYOND = 1.01
"""Fractions up to this are rounding; above it a line holds pixels."""

HEADER = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "iscrowd")
"""Of what is written."""


@FORMAT_REGISTRY.register("csv")
class CsvFormat(AnnotationFormat):
    """A table a split. A source has "annotations" (the file), and may have "images" (the folder from which file names count), "classes": the
    file that numbers the classes, "only": train, val or test, the lines of which the column "split" says so, "units: fractions", and for VIA "class_attribute": the attribute
    of regions that is the class.
    """

    name, title = "csv", "CSV"

    def recognise(self, listing: Listing) -> Found:
        """Every table with a header that is understood; one with other columns is refused if it names images, or seems to have boxes."""
        found, classes, mappings = Found(), set(), {}
        for file in listing.with_suffix(".csv", ".tsv"):
            folder, name = os.path.split(file)
            split = split_of([folder, os.path.splitext(name)[0]])
            try:
                text, _ = read_text(listing.path(file))
                table = Table(text)
            except (FileNotFoundError, ValueError) as error:
                found.refused.append(Refused(file, str(error), split))
                continue
            if not isinstance(table.columns, Columns):
                if mapping := _class_mapping(text):
                    mappings[file] = mapping
                    continue
                if reason := table.columns or _names_images(table, listing):
                    found.refused.append(Refused(file, reason, split))
                continue
            survey = _survey(table)
            if reason := survey.reason_against():
                found.refused.append(Refused(file, reason, split))
                continue
            classes |= survey.classes
            source: Source = {
                "images": folder_of_images(listing, list(survey.names), folder, split),
                "annotations": file,
            }
            if survey.are_fractions():
                source["units"] = "fractions"
            if survey.attribute is not None and survey.attributes > 1:
                source["class_attribute"] = survey.attribute
            for only in survey.splits:
                found.add(only or split, {**source, "only": only} if only else source, [file])
        found.classes = sorted(classes, key=_natural)
        for file, mapping in mappings.items():
            if missing := classes - set(mapping):
                found.unused[file] = f"numbers classes, but not {', '.join(sorted(missing)[:5])}"
            elif found.splits:
                found.classes = mapping
                found.used.add(file)
                for sources in found.splits.values():
                    sources[0]["classes"] = file
        return found

    def read(self, source: Source, reading: Reading) -> None:
        """Read the lines; those of one image need not be together.

        Raises:
            ValueError: the file is no table of boxes.
        """
        path = reading.path("annotations")
        reading.path("images", default=".")
        text, guessed = read_text(path)
        table = Table(text)
        if not isinstance(table.columns, Columns):
            raise ValueError(f"{path} {table.columns or _not_understood(table)}")
        only = source.get("only")
        if only is not None and (not isinstance(only, str) or "split" not in table.columns.where):
            raise ValueError(
                f"the split takes the lines of {only!r} only, and {path} has no column that says which these are"
            )
        reading.files.add(str(path))
        if isinstance(source.get("classes"), str):
            reading.files.add(str(reading.root / source["classes"]))  # the card has the classes
        if guessed:
            reading.problem(Kind.ENCODING, path, f"is read as {guessed}", done="used")
        if "width" in table.columns.where and "height" in table.columns.where:
            reading.metadata["says_sizes"] = True
        lines = _Lines(table, str(path), reading)
        for number, cells in table.rows():
            if (
                only is None
                or isinstance(cells, str)
                or _split_in(cells, table.columns) == SPLIT_WORDS.get(only.lower(), only)
            ):
                lines.take(number, cells)
        lines.finish()

    def write(self, records: dict[str, list[dict]], classes: list[str], folder: Path) -> dict[str, list[Source]]:
        """Write ``<split>.csv`` with the columns ``HEADER``; an image without objects is a line without a box. Boxes keep 1/10,000 pixel."""
        splits: dict[str, list[Source]] = {}
        for split, found in records.items():
            with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream)
                writer.writerow(HEADER)
                for record in found:
                    image = (
                        os.path.relpath(record["file_name"], folder).replace(os.sep, "/"),
                        record["width"],
                        record["height"],
                    )
                    for x in record["annotations"]:
                        sides = (f"{value:.4f}".rstrip("0").rstrip(".") for value in x["bbox"])
                        writer.writerow((*image, classes[x["category_id"]], *sides, x["iscrowd"]))
                    if not record["annotations"]:
                        writer.writerow((*image, "", "", "", "", "", ""))
            splits[split] = [{"images": ".", "annotations": f"{split}.csv"}]
        return splits


def _class_mapping(text: str) -> list[str] | None:
    """The classes in the order of keras-retinanet's second file, ``name,number`` with 0..K-1; None for any other text."""
    rows = [line.rsplit(",", 1) for line in text.splitlines() if line.strip()]
    if not rows or any(len(cells) != 2 for cells in rows):
        return None
    numbers = {as_id(number): as_name(name) for name, number in rows}
    names = [numbers.get(i) for i in range(len(rows))]
    return names if None not in names and len(set(names)) == len(names) else None


class _Lines:
    """Takes the lines of a table into a reading."""

    def __init__(self, table: Table, file: str, reading: Reading) -> None:
        self.table, self.file, self.reading, self.where = table, file, reading, table.columns.where
        self.images: dict[str, int | None] = {}
        self.labels: dict[str, int] = {}
        self.lost: Counter[str] = Counter()  # boxes of images that are not there
        self.fractions: list[tuple] = []  # boxes that would be smaller than a pixel: what they are is known at the end
        self.pixels = 0
        self.attribute = (
            (stated_attribute(reading.source) or _survey(table).attribute) if table.columns.box == "via" else None
        )

    def take(self, number: int, cells: list[str] | str) -> None:
        """Take the image and the box of a line."""
        item = f"line {number}"
        if isinstance(cells, str):
            self.reading.problem(Kind.ANNOTATION, self.file, cells, None, item, boxes=1)
            return
        if self.table.is_header(cells):
            self.reading.problem(Kind.MERGED, self.file, "is the header again", None, item, done="passed over")
            return
        name = cell_of(cells, self.where["file"])
        box = _via_shape(cells, self.where) if self.table.columns.box == "via" else self.table.box_of(cells)
        if name.startswith("#") and self._find(name) is None:
            return  # a comment
        if not name:
            self.reading.problem(Kind.ANNOTATION, self.file, "names no image", None, item, boxes=int(box is not None))
            return
        if name not in self.images:
            self.images[name] = self._image(name, cells)
        image = self.images[name]
        if image is None:
            self.lost[name] += box is not None
        elif self.table.columns.box == "via":
            if box is not None:
                take_region(
                    box,
                    _json(cells, self.where["attributes"]),
                    image=image,
                    attribute=self.attribute,
                    file=self.file,
                    item=item,
                    reading=self.reading,
                )
        else:
            self._take_box(box, image, cells, item)

    def _take_box(self, box: list[float] | str | None, image: int, cells: list[str], item: str) -> None:
        reading, name = (
            self.reading,
            cell_of(cells, self.where.get("class")) if "class" in self.where else only_class(self.reading),
        )
        if box is None:
            if "class" in self.where and as_name(name) in reading.classes:
                box = f"has the class {name!r} and no box"
            else:
                return  # an image without objects
        if isinstance(box, list) and reading.fractions and max(map(abs, box)) > BEYOND:
            box = f"values {', '.join(f'{value:g}' for value in box)} are pixels, where fractions of width and height (0..1) are expected"
        if isinstance(box, str):
            reading.problem(Kind.ANNOTATION, self.file, box, reading.records[image]["image_id"], item, boxes=1)
            return
        label = self.labels.get(name)
        if label is None:
            label = reading.label_of(name, file=self.file)
            if label is None:
                return
            self.labels[name] = label
        crowd = cell_of(cells, self.where.get("crowd"))
        crowd = bool(crowd) and as_flag(crowd) and as_number(crowd) != -1  # Open Images' -1: not known
        if not reading.fractions and _is_fraction(box):
            self.fractions.append((image, label, box, item, crowd))
        else:
            self.pixels += 1
            reading.box(image, label, box, item=item, crowd=crowd)

    def finish(self) -> None:
        """Take what could not be taken before all lines were seen."""
        for image, label, box, item, crowd in self.fractions:
            if self.pixels:
                what = f"values {', '.join(f'{value:g}' for value in box)} are fractions, where pixels are expected"
                self.reading.problem(
                    Kind.ANNOTATION, self.file, what, self.reading.records[image]["image_id"], item, boxes=1
                )
            else:
                self.reading.box(image, label, box, item=item, crowd=crowd)
        for name, image in self.images.items():
            if image is None:
                self.reading.image(name, file=self.file, boxes=self.lost[name])

    def _image(self, name: str, cells: list[str]) -> int | None:
        """The number of the image; None if it is not there, which is said when its boxes are counted."""
        path = self._find(name)
        if path is None:
            return None
        size = tuple(as_size(self.table.number(cell_of(cells, self.where.get(key)))) for key in ("height", "width"))
        size = size if None not in size else (None, None)
        if PurePosixPath(path).stem == PurePosixPath(name).name:  # Open Images and Kaggle write no ending
            return self.reading.add_image(path, file=self.file, size=size)
        return self.reading.image(name, file=self.file, size=size)

    def _find(self, name: str) -> str | None:
        try:
            return self.reading.finder.find(name, near=os.path.dirname(self.file))[0]
        except LookupError:
            return None


@dataclass
class _Survey:
    """What a table holds: names of images, classes, splits (None: no column says), values of boxes."""

    names: dict[str, None] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    splits: dict[str | None, None] = field(default_factory=dict)
    other_splits: dict[str, None] = field(default_factory=dict)
    attribute: str | None = None
    attributes: int = 0
    boxes: int = 0
    fractions: int = 0
    within: int = 0

    def are_fractions(self) -> bool:
        """Whether boxes are fractions: nearly all lie between 0 and 1, and not all of these are whole."""
        return self.fractions > 0 and self.within >= 0.9 * self.boxes

    def reason_against(self) -> str | None:
        """Why the file is not taken."""
        if not self.names:
            return "has a header and no line that names an image"
        if self.splits.keys() - {None} and self.other_splits:
            return f"has a column of splits with {', '.join(map(shown, [repr(value) for value in self.other_splits][:10]))}, which are none of train, val and test"
        return None


def _survey(table: Table) -> _Survey:
    """Look through the lines of a table."""
    survey, regions = _Survey(), []
    where, via = table.columns.where, table.columns.box == "via"
    for _, cells in table.rows():
        if isinstance(cells, str) or table.is_header(cells):
            continue
        name = cell_of(cells, where["file"])
        if not name or name.startswith("#"):
            continue
        survey.names[name] = None
        if "split" in where:
            split = _split_in(cells, table.columns)
            (survey.splits if split else survey.other_splits)[split or cell_of(cells, where["split"])] = None
        if via:
            if isinstance(box_of_shape(_json(cells, where["shape"])), list):
                regions.append(_json(cells, where["attributes"]))
            continue
        box = table.box_of(cells)
        if isinstance(box, list):
            survey.boxes += 1
            survey.fractions += _is_fraction(box)
            survey.within += box[2] <= BEYOND and max(map(abs, box)) <= BEYOND
            survey.classes.add(cell_of(cells, where["class"]) if "class" in where else WITHOUT_A_CLASS)
    if via:
        survey.attribute = class_attribute(regions)
        survey.attributes = len({key for region in regions for key in region})
        survey.classes = {class_of(region, survey.attribute) for region in regions}
    survey.classes = {as_name(name) for name in survey.classes} - {None}
    if not survey.splits:
        survey.splits[None] = None
    return survey


def _is_fraction(box: list[float]) -> bool:
    """Whether a box lies in the first pixel of its image and is not that pixel."""
    return (
        box[2] <= BEYOND
        and all(math.isfinite(value) and -0.01 <= value <= BEYOND for value in box)
        and any(value != int(value) for value in box)
    )


def _split_in(cells: list[str], columns: Columns) -> str | None:
    return SPLIT_WORDS.get(cell_of(cells, columns.where.get("split")).lower())


def _json(cells: list[str], place: int) -> dict:
    """The mapping that a cell of VIA's table holds; empty if it is none."""
    try:
        value = json.loads(cell_of(cells, place))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _via_shape(cells: list[str], where: dict[str, int]) -> dict | None:
    """The shape of a line; None for an image without regions, which has an empty one."""
    return None if cell_of(cells, where["shape"]) in ("", "{}") else _json(cells, where["shape"])


def _names_images(table: Table, listing: Listing) -> str | None:
    """Why a table without columns of boxes is named: its first lines name images of the folder."""
    for _, cells in [(0, table.header), *(row for row, _ in zip(table.rows(), range(20)))]:
        if isinstance(cells, list) and any(
            listing.named(PurePosixPath(cell.strip().replace("\\", "/")).name)
            for cell in cells[:20]
            if 4 < len(cell) < 4096
        ):
            return f"names images of the folder, but {_not_understood(table)}"
    return None


def _not_understood(table: Table) -> str:
    columns = ", ".join(shown(cell.strip(), most=40) for cell in table.header[:30])
    return f"has neither a header with an image and a box nor the columns path, x1, y1, x2, y2, class; its first line is {columns or 'empty'}"


def _natural(name: str) -> tuple:
    """Order of names: numbers by their value, before texts."""
    return (0, int(name), name) if name.isascii() and name.isdecimal() and len(name) < 19 else (1, 0, name)
