"""Regions of VGG Image Annotator (VIA), in its JSON and CSV files: the box of a shape, the class in its attributes."""

import math
from collections.abc import Iterable
from typing import Any

from retina_plugin.data.boxes import extent
from retina_plugin.data.formats.base import Reading, Source
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_flag, as_name, as_number

CLASS_ATTRIBUTES = ("class", "label", "name", "type", "category", "species", "object")
"""Names of the attribute that holds the class, most likely first; if none is present, the first with text is used."""

WITHOUT_A_CLASS = "object"
"""The class in files whose regions have no attributes."""

WITHOUT_AREA = ("point", "polyline", "line")
"""Shapes that have no box."""


def take_region(
    shape: object, attributes: dict, *, image: int, attribute: str | None, file: str, item: int | str, reading: Reading
) -> None:
    """Add the box of a region to a reading, or report what is wrong with it.

    Args:
        shape: its "shape_attributes".
        attributes: its "region_attributes".
        image: number of its image in the reading.
        attribute: the attribute that holds the class; None: there is only one class.
        file: annotation file, for messages.
        item: number or line of the region, for messages.
        reading: receives the box.
    """
    image_id = reading.records[image]["image_id"]
    box = box_of_shape(shape)
    if isinstance(box, str):
        reading.problem(Kind.ANNOTATION, file, box, image_id, item, boxes=1)
        return
    name = _text_of(attributes.get(attribute)) if attribute is not None else only_class(reading)
    if isinstance(name, tuple):
        what = f"{attribute} has {len(name)} values, {', '.join(map(shown, name))}, but one class is expected"
        reading.problem(Kind.ANNOTATION, file, what, image_id, item, boxes=1)
        return
    label = reading.label_of(name, file=file)
    if label is not None:
        reading.box(image, label, box, item=item)


def stated_attribute(source: Source) -> str | None:
    """Return the attribute that the card names as the class, or None.

    Raises:
        ValueError: it is not a text.
    """
    attribute = source.get("class_attribute")
    if attribute is not None and not isinstance(attribute, str):
        raise ValueError(f"class_attribute must be the name of an attribute, got {attribute!r}")
    return attribute


def only_class(reading: Reading) -> str:
    """Return the class of boxes that state none: the card's, if it has only one."""
    return reading.classes[0] if len(reading.classes) == 1 else WITHOUT_A_CLASS


def class_attribute(regions: Iterable[dict]) -> str | None:
    """Return the attribute that holds the class of regions, or None if no attribute has a value.

    Args:
        regions: "region_attributes" of each region.

    Example:
        >>> class_attribute([{"colour": "red", "Type": "cat"}]), class_attribute([{}])
        ('Type', None)
        >>> class_attribute([{"id": {}, "animal": {"cat": True}}])
        'animal'
    """
    counts: dict[str, int] = {}
    for attributes in regions:
        for key, value in attributes.items():
            counts[key] = counts.get(key, 0) + (as_name(_text_of(value)) is not None)
    counts = {key: count for key, count in counts.items() if count}
    for name in CLASS_ATTRIBUTES:
        named = [key for key in counts if key.strip().lower() == name]
        if named:
            return max(named, key=counts.__getitem__)
    return next(iter(counts), None)


def attributes_of(region: object) -> dict:
    """Return the attributes of a region; empty if it has none."""
    attributes = region.get("region_attributes") if isinstance(region, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def class_of(attributes: dict, attribute: str | None) -> str | None:
    """Return the class of a region; None if it has none, or several."""
    return WITHOUT_A_CLASS if attribute is None else as_name(_text_of(attributes.get(attribute)))


def _text_of(value: object) -> Any:
    """Return the value of an attribute: for a group of checkboxes the one that is ticked, a tuple if several are."""
    if not isinstance(value, dict):
        return value
    ticked = tuple(key for key, on in value.items() if as_flag(on))
    return ticked[0] if len(ticked) == 1 else ticked or None


def box_of_shape(shape: object) -> list[float] | str:
    """Return the XYXY box of "shape_attributes", or what is wrong with it.

    Example:
        >>> box_of_shape({"name": "rect", "x": 4, "y": "5", "width": 10, "height": 20})
        [4.0, 5.0, 14.0, 25.0]
        >>> box_of_shape({"name": "circle", "cx": 10, "cy": 10, "r": 2})
        [8.0, 8.0, 12.0, 12.0]
        >>> box_of_shape({"name": "point", "cx": 1, "cy": 1})
        'a point has no box'
    """
    if not isinstance(shape, dict) or not shape:
        return f"a region must have shape_attributes, got {shown(shape)}"
    name = shape.get("name")
    if name == "polygon" or (name is None and "all_points_x" in shape):
        return _box_of_points(shape.get("all_points_x"), shape.get("all_points_y"))
    if name in WITHOUT_AREA:
        return f"a {name} has no box"
    keys = {
        "rect": ("x", "y", "width", "height"),
        "circle": ("cx", "cy", "r"),
        "ellipse": ("cx", "cy", "rx", "ry"),
    }.get(name if isinstance(name, str) else "")
    if keys is None:
        return f"the shape must be rect, polygon, circle or ellipse, got {shown(name)!r}"
    numbers = [number for key in keys if (number := as_number(shape.get(key))) is not None]
    if len(numbers) < len(keys):
        return f"{name} must have the numbers {', '.join(keys)}, got {[shown(shape.get(key)) for key in keys]}"
    if name == "rect":
        x, y, w, h = numbers
        return [x, y, x + w, y + h]
    x, y, rx, ry = numbers if name == "ellipse" else [*numbers, numbers[2]]  # a circle has one radius
    return box_of_ellipse(x, y, rx, ry, as_number(shape.get("theta")) or 0.0)


def box_of_ellipse(x: float, y: float, rx: float, ry: float, angle: float) -> list[float]:
    """Return the XYXY box around a rotated ellipse.

    Args:
        x: of the centre, pixels.
        y: of the centre, pixels.
        rx: first semi-axis, pixels.
        ry: second semi-axis, pixels.
        angle: from the x axis to the first semi-axis, radians.

    Example:
        >>> box_of_ellipse(10, 20, 5, 2, 0), [round(v, 6) for v in box_of_ellipse(10, 20, 5, 2, math.pi / 2)]
        ([5.0, 18.0, 15.0, 22.0], [8.0, 15.0, 12.0, 25.0])
    """
    if not math.isfinite(angle):
        return [math.nan] * 4
    cos, sin = math.cos(angle), math.sin(angle)
    half_width = math.hypot(rx * cos, ry * sin)
    half_height = math.hypot(rx * sin, ry * cos)
    return [x - half_width, y - half_height, x + half_width, y + half_height]


def _box_of_points(xs: object, ys: object) -> list[float] | str:
    """Return the XYXY box around a polygon, or what is wrong with it."""
    box = None
    if isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys):
        box = extent(list(zip(xs, ys, strict=True)))
    if box is None:
        return f"polygon must have as many numbers in all_points_x as in all_points_y, got {shown(xs)} and {shown(ys)}"
    return box
