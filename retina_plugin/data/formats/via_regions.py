"""Regions of VGG Image Annotator, which it writes into JSON and CSV alike: the box of a shape, the class of its attributes."""

import math
from collections.abc import Iterable

from retina_plugin.data.boxes import extent
from retina_plugin.data.formats.base import Reading, Source
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_flag, as_name, as_number

CLASS_ATTRIBUTES = ("class", "label", "name", "type", "category", "species", "object")
"""What the attribute that is the class is called, most likely first; of others, the first that is text."""

WITHOUT_A_CLASS = "object"
"""The class of files in which no region has an attribute."""

WITHOUT_AREA = ("point", "polyline", "line")


def take_region(
    shape: object, attributes: dict, *, image: int, attribute: str | None, file: str, item: object, reading: Reading
) -> None:
    """Take the box of a region, or note what is wrong with it.

    Args:
        shape: "shape_attributes".
        attributes: "region_attributes".
        image: its number in the reading.
        attribute: that is the class; None: there is one class only.
        file: to name.
        item: number or line of the region.
        reading: that takes the box.
    """
    image_id = reading.records[image]["image_id"]
    box = box_of_shape(shape)
    if isinstance(box, str):
        reading.problem(Kind.ANNOTATION, file, box, image_id, item, boxes=1)
        return
    name = _text_of(attributes.get(attribute)) if attribute is not None else only_class(reading)
    if isinstance(name, tuple):
        reading.problem(
            Kind.ANNOTATION,
            file,
            f"{attribute} has {len(name)} values, {', '.join(map(shown, name))}, where one class is expected",
            image_id,
            item,
            boxes=1,
        )
        return
    label = reading.label_of(name, file=file)
    if label is not None:
        reading.box(image, label, box, item=item)


def stated_attribute(source: Source) -> str | None:
    """The attribute that the card names as the class.

    Raises:
        ValueError: it is no text.
    """
    attribute = source.get("class_attribute")
    if attribute is not None and not isinstance(attribute, str):
        raise ValueError(f"class_attribute must be the name of an attribute, got {attribute!r}")
    return attribute


def only_class(reading: Reading) -> str:
    """The class of boxes that have none: that of the card, if it has just one."""
    return reading.classes[0] if len(reading.classes) == 1 else WITHOUT_A_CLASS


def class_attribute(regions: Iterable[dict]) -> str | None:
    """The attribute of regions that is their class; None: none of them has one.

    Example:
        >>> class_attribute([{"colour": "red", "Type": "cat"}]), class_attribute([{"id": {}, "animal": {"cat": True}}]), class_attribute([{}])
        ('Type', 'animal', None)
    """
    counts: dict[str, int] = {}
    for attributes in regions:
        for key, value in attributes.items():
            counts[key] = counts.get(key, 0) + (as_name(_text_of(value)) is not None)
    counts = {key: count for key, count in counts.items() if count}
    for name in CLASS_ATTRIBUTES:
        named = [key for key in counts if key.strip().lower() == name]
        if named:
            return max(named, key=counts.get)
    return next(iter(counts), None)


def attributes_of(region: object) -> dict:
    """The attributes of a region; empty where it has none."""
    attributes = region.get("region_attributes") if isinstance(region, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def class_of(attributes: dict, attribute: str | None) -> str | None:
    """The class of a region, as it is found in a folder; None where it has none, or several."""
    return WITHOUT_A_CLASS if attribute is None else as_name(_text_of(attributes.get(attribute)))


def _text_of(value: object) -> object:
    """The value of an attribute: of a group of boxes to tick the one that is ticked, a tuple if there are several."""
    if not isinstance(value, dict):
        return value
    ticked = tuple(key for key, on in value.items() if as_flag(on))
    return ticked[0] if len(ticked) == 1 else ticked or None


def box_of_shape(shape: object) -> list[float] | str:
    """XYXY of "shape_attributes", or what is wrong with it.

    Example:
        >>> box_of_shape({"name": "rect", "x": 4, "y": "5", "width": 10, "height": 20})
        [4.0, 5.0, 14.0, 25.0]
        >>> box_of_shape({"name": "circle", "cx": 10, "cy": 10, "r": 2}), box_of_shape({"name": "point", "cx": 1, "cy": 1})
        ([8.0, 8.0, 12.0, 12.0], 'a point has no box')
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
    numbers = [as_number(shape.get(key)) for key in keys]
    if None in numbers:
        return f"{name} must have the numbers {', '.join(keys)}, got {[shown(shape.get(key)) for key in keys]}"
    if name == "rect":
        x, y, w, h = numbers
        return [x, y, x + w, y + h]
    x, y, rx, ry = numbers if name == "ellipse" else (*numbers, numbers[2])
    return box_of_ellipse(x, y, rx, ry, as_number(shape.get("theta")) or 0.0)


def box_of_ellipse(x: float, y: float, rx: float, ry: float, angle: float) -> list[float]:
    """XYXY around an ellipse that is turned by an angle, in radians.

    Example:
        >>> box_of_ellipse(10, 20, 5, 2, 0), [round(v, 6) for v in box_of_ellipse(10, 20, 5, 2, math.pi / 2)]
        ([5.0, 18.0, 15.0, 22.0], [8.0, 15.0, 12.0, 25.0])
    """
    if not math.isfinite(angle):
        return [math.nan] * 4
    cos, sin = math.cos(angle), math.sin(angle)
    half_width, half_height = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
    return [x - half_width, y - half_height, x + half_width, y + half_height]


def _box_of_points(xs: object, ys: object) -> list[float] | str:
    box = extent(list(zip(xs, ys))) if isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys) else None
    return (
        box
        if box is not None
        else f"polygon must have as many numbers in all_points_x as in all_points_y, got {shown(xs)} and {shown(ys)}"
    )
