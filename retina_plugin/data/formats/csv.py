"""CSV, one box per line: with a header in any order, or keras-retinanet's ``path,x1,y1,x2,y2,class`` without one."""

import csv
import itertools
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from retina_plugin.data.files import SPLIT_WORDS, Listing, split_of
from retina_plugin.data.formats.base import (
    FORMAT_REGISTRY,
    AnnotationFormat,
    Found,
    Reading,
    Refused,
    Source,
    folder_of_images,
)
from retina_plugin.data.formats.csv_columns import Columns
from retina_plugin.data.formats.csv_survey import BEYOND, is_fraction, json_of, split_in, survey_of
from retina_plugin.data.formats.csv_table import Table, cell_of
from retina_plugin.data.formats.via_regions import only_class, stated_attribute, take_region
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_flag, as_id, as_name, as_number, as_size
from retina_plugin.text import read_text

HEADER = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "iscrowd")
"""Columns of the files that are written."""


@FORMAT_REGISTRY.register("csv")
class CsvFormat(AnnotationFormat):
    """One table per split.

    A source has "annotations" (the file), and may have:

    "images": the folder to which file names are relative.
    "classes": the file that numbers the classes.
    "only": train, val or test, to read only the lines whose split column has this value.
    "units": "fractions" if the boxes are fractions of the image.
    "class_attribute": for VIA, the attribute of regions that holds the class.
    """

    name, title = "csv", "CSV"

    def recognise(self, listing: Listing) -> Found:
        """Find every table whose header is understood.

        A table with other columns is refused if it names images or seems to have boxes.
        """
        found = Found()
        classes: set[str] = set()
        mappings: dict[str, list[str]] = {}
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
                elif reason := table.columns or _names_images(table, listing):
                    found.refused.append(Refused(file, reason, split))
                continue
            survey = survey_of(table, table.columns)
            if reason := survey.reason_against():
                found.refused.append(Refused(file, reason, split))
                continue
            classes |= survey.classes
            images = folder_of_images(listing, list(survey.names), folder, split)
            source: Source = {"images": images, "annotations": file}
            if survey.are_fractions():
                source["units"] = "fractions"
            if survey.attribute is not None and survey.attributes > 1:
                source["class_attribute"] = survey.attribute
            for only in survey.splits:
                found.add(only or split, {**source, "only": only} if only else source, [file])
        found.classes = sorted(classes, key=_natural)
        for file, mapping in mappings.items():
            _use_mapping(file, mapping, classes, found)
        return found

    def read(self, source: Source, reading: Reading) -> None:
        """Read the lines; the lines of an image need not be adjacent.

        Raises:
            ValueError: the file is not a table of boxes.
        """
        path = reading.path("annotations")
        reading.path("images", default=".")
        text, guessed = read_text(path)
        table = Table(text)
        columns = table.columns
        if not isinstance(columns, Columns):
            raise ValueError(f"{path} {columns or _not_understood(table)}")
        only = source.get("only")
        if only is not None and (not isinstance(only, str) or "split" not in columns.where):
            raise ValueError(f"the split takes only the lines of {only!r}, but {path} has no column of splits")
        reading.files.add(str(path))
        if isinstance(source.get("classes"), str):
            reading.files.add(str(reading.root / source["classes"]))  # its classes are in the card already
        if guessed:
            reading.problem(Kind.ENCODING, path, f"is read as {guessed}", done="used")
        if "width" in columns.where and "height" in columns.where:
            reading.metadata["says_sizes"] = True
        wanted = SPLIT_WORDS.get(only.lower(), only) if only is not None else None
        lines = _Lines(table, columns, str(path), reading)
        for number, cells in table.rows():
            if only is None or isinstance(cells, str) or split_in(cells, columns) == wanted:
                lines.take(number, cells)
        lines.finish()

    def write(self, records: dict[str, list[dict]], classes: list[str], folder: Path) -> dict[str, list[Source]]:
        """Write ``<split>.csv`` with the columns ``HEADER``.

        An image without objects is a line without a box. Boxes are rounded to 1/10,000 pixel. Predicted boxes have a
        further column, "score".
        """
        splits: dict[str, list[Source]] = {}
        for split, found in records.items():
            with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream)
                scored = any("score" in x for record in found for x in record["annotations"])
                writer.writerow((*HEADER, "score") if scored else HEADER)
                for record in found:
                    name = os.path.relpath(record["file_name"], folder).replace(os.sep, "/")
                    image = (name, record["width"], record["height"])
                    for x in record["annotations"]:
                        sides = (f"{value:.4f}".rstrip("0").rstrip(".") for value in x["bbox"])
                        score = (f"{x['score']:.4f}",) if scored else ()
                        writer.writerow((*image, classes[x["category_id"]], *sides, x["iscrowd"], *score))
                    if not record["annotations"]:
                        writer.writerow((*image, *[""] * (6 + scored)))
            splits[split] = [{"images": ".", "annotations": f"{split}.csv"}]
        return splits


def _class_mapping(text: str) -> list[str] | None:
    """Return the classes of keras-retinanet's second file, lines ``name,number`` with 0..K-1; None for other text."""
    rows = [line.rsplit(",", 1) for line in text.splitlines() if line.strip()]
    if not rows or any(len(cells) != 2 for cells in rows):
        return None
    name_of = {as_id(number): as_name(name) for name, number in rows}
    names = [name for i in range(len(rows)) if (name := name_of.get(i)) is not None]
    return names if len(set(names)) == len(rows) else None


def _use_mapping(file: str, mapping: list[str], classes: set[str], found: Found) -> None:
    """Take the order of the classes from a file that numbers them, unless it lacks a class."""
    if missing := classes - set(mapping):
        found.unused[file] = f"numbers classes, but lacks {', '.join(sorted(missing)[:5])}"
    elif found.splits:
        found.classes = mapping
        found.used.add(file)
        for sources in found.splits.values():
            sources[0]["classes"] = file


class _Lines:
    """Reads the lines of a table into a reading.

    Args:
        table: the table.
        columns: its columns.
        file: path of the table, for messages.
        reading: receives images and boxes.
    """

    def __init__(self, table: Table, columns: Columns, file: str, reading: Reading) -> None:
        self.table, self.file, self.reading, self.where = table, file, reading, columns.where
        self.images: dict[str, int | None] = {}
        self.labels: dict[str, int] = {}
        self.lost: Counter[str] = Counter()  # boxes of images that do not exist
        # (image, label, box, item, crowd) of boxes smaller than a pixel: whether they are fractions is known at the end
        self.fractions: list[tuple[int, int, list[float], str, bool]] = []
        self.pixels = 0
        self.is_via = columns.box == "via"
        self.attribute: str | None = None
        if self.is_via:
            self.attribute = stated_attribute(reading.source) or survey_of(table, columns).attribute

    def take(self, number: int, cells: list[str] | str) -> None:
        """Read the image and the box of a line.

        Args:
            number: of the line, from 1.
            cells: its cells, or what is wrong with it.
        """
        item, file = f"line {number}", self.file
        if isinstance(cells, str):
            self.reading.problem(Kind.ANNOTATION, file, cells, None, item, boxes=1)
            return
        if self.table.is_header(cells):
            self.reading.problem(Kind.MERGED, file, "repeats the header", None, item, done="skipped")
            return
        name = cell_of(cells, self.where["file"])
        shape = self._shape(cells) if self.is_via else None
        box = None if self.is_via else self.table.box_of(cells)
        has_box = shape is not None or box is not None
        if name.startswith("#") and self._find(name) is None:
            return  # a comment
        if not name:
            self.reading.problem(Kind.ANNOTATION, file, "names no image", None, item, boxes=int(has_box))
            return
        if name not in self.images:
            self.images[name] = self._image(name, cells)
        image = self.images[name]
        if image is None:
            self.lost[name] += has_box
        elif not self.is_via:
            self._take_box(box, image, cells, item)
        elif shape is not None:
            attributes = json_of(cells, self.where["attributes"])
            take_region(
                shape, attributes, image=image, attribute=self.attribute, file=file, item=item, reading=self.reading
            )

    def _shape(self, cells: list[str]) -> dict | None:
        """Return VIA's shape of a line; None for an image without regions, whose shape is empty."""
        place = self.where["shape"]
        return None if cell_of(cells, place) in ("", "{}") else json_of(cells, place)

    def _take_box(self, box: list[float] | str | None, image: int, cells: list[str], item: str) -> None:
        """Add a box to an image, or report what is wrong with it."""
        reading, has_class = self.reading, "class" in self.where
        name = cell_of(cells, self.where["class"]) if has_class else only_class(reading)
        if box is None:
            if not has_class or as_name(name) not in reading.classes:
                return  # an image without objects
            box = f"has the class {name!r}, but no box"
        elif isinstance(box, list) and reading.fractions and max(map(abs, box)) > BEYOND:
            box = f"values {_listed(box)} are pixels, but fractions of width and height (0..1) are expected"
        if isinstance(box, str):
            reading.problem(Kind.ANNOTATION, self.file, box, reading.records[image]["image_id"], item, boxes=1)
            return
        label = self.labels.get(name)
        if label is None:
            label = reading.label_of(name, file=self.file)
            if label is None:
                return
            self.labels[name] = label
        flag = cell_of(cells, self.where.get("crowd"))
        crowd = bool(flag) and as_flag(flag) and as_number(flag) != -1  # Open Images writes -1 for unknown
        if not reading.fractions and is_fraction(box):
            self.fractions.append((image, label, box, item, crowd))
        else:
            self.pixels += 1
            reading.box(image, label, box, item=item, crowd=crowd)

    def finish(self) -> None:
        """Add what can only be decided after all lines have been read."""
        for image, label, box, item, crowd in self.fractions:
            if self.pixels:
                what = f"values {_listed(box)} are fractions, but pixels are expected"
                image_id = self.reading.records[image]["image_id"]
                self.reading.problem(Kind.ANNOTATION, self.file, what, image_id, item, boxes=1)
            else:
                self.reading.box(image, label, box, item=item, crowd=crowd)
        for name, number in self.images.items():
            if number is None:
                self.reading.image(name, file=self.file, boxes=self.lost[name])

    def _image(self, name: str, cells: list[str]) -> int | None:
        """Return the number of an image; None if it does not exist, which is reported when its boxes are counted."""
        path = self._find(name)
        if path is None:
            return None
        height, width = (as_size(self.table.number(cell_of(cells, self.where.get(key)))) for key in ("height", "width"))
        size = (height, width) if height is not None and width is not None else (None, None)
        if PurePosixPath(path).stem == PurePosixPath(name).name:  # Open Images and Kaggle omit the suffix
            return self.reading.add_image(path, file=self.file, size=size)
        return self.reading.image(name, file=self.file, size=size)

    def _find(self, name: str) -> str | None:
        """Return the path of an image, or None if it does not exist or is ambiguous."""
        try:
            return self.reading.finder.find(name, near=os.path.dirname(self.file))[0]
        except LookupError:
            return None


def _listed(values: Iterable[float]) -> str:
    """Return numbers as text, separated by commas."""
    return ", ".join(f"{value:g}" for value in values)


def _names_images(table: Table, listing: Listing) -> str | None:
    """Return why a table without box columns is refused: its first lines name images of the folder; None if not."""
    rows = [cells for _, cells in itertools.islice(table.rows(), 20)]
    for cells in [table.header, *rows]:
        names = [cell for cell in cells[:20] if 4 < len(cell) < 4096] if isinstance(cells, list) else []
        if any(listing.named(PurePosixPath(name.strip().replace("\\", "/")).name) for name in names):
            return f"names images of the folder, but {_not_understood(table)}"
    return None


def _not_understood(table: Table) -> str:
    """Describe a table that has no known columns."""
    columns = ", ".join(shown(cell.strip(), most=40) for cell in table.header[:30])
    return (
        "has neither a header with an image and a box nor the columns path, x1, y1, x2, y2, class; its first line is "
        f"{columns or 'empty'}"
    )


def _natural(name: str) -> tuple[int, int, str]:
    """Sort key of names: numbers by their value, before texts."""
    return (0, int(name), name) if name.isascii() and name.isdecimal() and len(name) < 19 else (1, 0, name)
