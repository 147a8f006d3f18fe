"""Survey a table of boxes: its images, classes and splits, and whether its boxes are fractions."""

import json
import math
from dataclasses import dataclass, field

from retina_plugin.data.files import SPLIT_WORDS
from retina_plugin.data.formats.csv_columns import Columns
from retina_plugin.data.formats.csv_table import Table, cell_of
from retina_plugin.data.formats.via_regions import WITHOUT_A_CLASS, box_of_shape, class_attribute, class_of
from retina_plugin.data.problems import shown
from retina_plugin.data.values import as_name

BEYOND = 1.01
"""Values up to this are fractions with rounding errors; a line with a larger value holds pixels."""


@dataclass
class Survey:
    """What a table contains.

    Args:
        names: names of images, in order.
        classes: names of classes.
        splits: train, val and test by the split column; None: there is no such column, or no value of it is known.
        other_splits: values of the split column that are not train, val or test.
        attribute: VIA's attribute that holds the class.
        attributes: number of different attributes that VIA's regions have.
        boxes: number of boxes.
        fractions: number of boxes that are fractions; see :func:`is_fraction`.
        within: number of boxes whose values are all at most ``BEYOND``.
    """

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
        """Return whether the boxes are fractions: nearly all are within 0..1, and some are not whole numbers."""
        return self.fractions > 0 and self.within >= 0.9 * self.boxes

    def reason_against(self) -> str | None:
        """Return why the file is not used, or None if it is."""
        if not self.names:
            return "has a header, but no line that names an image"
        if self.splits.keys() - {None} and self.other_splits:
            others = ", ".join(shown(repr(value)) for value in list(self.other_splits)[:10])
            return f"has a column of splits with {others}; expected train, val and test only"
        return None


def survey_of(table: Table, columns: Columns) -> Survey:
    """Go through the lines of a table and count what they contain.

    Args:
        table: the table.
        columns: its columns.
    """
    survey = Survey()
    regions: list[dict] = []  # attributes of VIA's regions
    classes: set[str] = set()
    where = columns.where
    for _, cells in table.rows():
        if isinstance(cells, str) or table.is_header(cells):
            continue
        name = cell_of(cells, where["file"])
        if not name or name.startswith("#"):
            continue
        survey.names[name] = None
        if "split" in where:
            _count_split(cells, columns, survey)
        if columns.box == "via":
            if isinstance(box_of_shape(json_of(cells, where["shape"])), list):
                regions.append(json_of(cells, where["attributes"]))
            continue
        box = table.box_of(cells)
        if isinstance(box, list):
            survey.boxes += 1
            survey.fractions += is_fraction(box)
            survey.within += box[2] <= BEYOND and max(map(abs, box)) <= BEYOND
            classes.add(cell_of(cells, where["class"]) if "class" in where else WITHOUT_A_CLASS)
    names: list[str | None] = [as_name(name) for name in classes]
    if columns.box == "via":
        survey.attribute = class_attribute(regions)
        survey.attributes = len({key for region in regions for key in region})
        names = [as_name(class_of(region, survey.attribute)) for region in regions]
    survey.classes = {name for name in names if name is not None}
    if not survey.splits:
        survey.splits[None] = None
    return survey


def _count_split(cells: list[str], columns: Columns, survey: Survey) -> None:
    """Record the value of the split column of a line."""
    split = split_in(cells, columns)
    if split:
        survey.splits[split] = None
    else:
        survey.other_splits[cell_of(cells, columns.where["split"])] = None


def is_fraction(box: list[float]) -> bool:
    """Return whether a box lies within 0..1 and has a value that is not whole.

    Args:
        box: XYXY.

    Example:
        >>> is_fraction([0.1, 0.2, 0.5, 1.0]), is_fraction([0.0, 0.0, 1.0, 1.0]), is_fraction([0.5, 1.0, 20.0, 30.0])
        (True, False, False)
    """
    return (
        box[2] <= BEYOND
        and all(math.isfinite(value) and -0.01 <= value <= BEYOND for value in box)
        and any(value != int(value) for value in box)
    )


def split_in(cells: list[str], columns: Columns) -> str | None:
    """Return the split that a line is of: train, val, test, or None."""
    return SPLIT_WORDS.get(cell_of(cells, columns.where.get("split")).lower())


def json_of(cells: list[str], place: int) -> dict:
    """Return the mapping in a cell of VIA's table; empty if the cell holds no mapping."""
    try:
        value = json.loads(cell_of(cells, place))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
