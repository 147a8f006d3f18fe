"""labelme: a JSON an image, with shapes drawn by hand (https://github.com/wkentaro/labelme)."""

import json
import math
from pathlib import Path

from detectron2.structures import BoxMode

from retina_plugin.data.formats.base import FORMAT_REGISTRY, ReadResult, split_path
from retina_plugin.data.image_files import size_of
from retina_plugin.data.problems import Problem, checked_box

WITHOUT_AREA = ("point", "line", "linestrip", "points")
"""Shapes that have no box."""


@FORMAT_REGISTRY.register("labelme")
def read_labelme(root: Path, split: dict, classes: list[str]) -> ReadResult:
    """Read every JSON of the folder ``split["annotations"]``; images lie where each says, or beside it.

    A rectangle's corners may be drawn in any order; of polygons, circles and masks the box is taken. Sizes are read from
    the images.
    """
    folder, result = split_path(root, split, "annotations"), ReadResult()
    for file in sorted(folder.rglob("*.json")):
        name = file.relative_to(folder).with_suffix("").as_posix()
        try:
            data = json.loads(file.read_text())
            shapes, image = data["shapes"], file.parent / str(data["imagePath"]).replace("\\", "/")
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            result.problems.append(Problem(str(file), f"is no labelme file with shapes and imagePath: {error!r}", name))
            continue
        if not image.is_file():  # the path of the machine where it was drawn
            image = file.parent / image.name
        try:
            height, width = size_of(image)
        except OSError as error:
            result.problems.append(Problem(str(file), f"its image {image} cannot be read: {error}", name))
            continue
        said = data.get("imageHeight"), data.get("imageWidth")
        if None not in said and said != (height, width):
            result.problems.append(Problem(str(file), f"says {said[1]}x{said[0]}, but {image} is {width}x{height}", name))
            continue
        record = {"file_name": str(image), "height": height, "width": width, "image_id": name, "annotations": []}
        for number, shape in enumerate(shapes, start=1):
            _add_shape(record, shape, number, classes, str(file), result.problems)
        result.records.append(record)
    return result


def _add_shape(record: dict, shape: dict, number: int, classes: list[str], file: str, problems: list[Problem]) -> None:
    """Append the box of one shape, if it has one that can be used."""
    image, label, kind = record["image_id"], shape.get("label"), shape.get("shape_type", "polygon")
    if label not in classes:
        problems.append(Problem(file, f"class {label!r} is not one of the card's: {', '.join(classes)}", image, number))
        return
    if kind in WITHOUT_AREA:
        problems.append(Problem(file, f"a {kind} has no box", image, number))
        return
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
        box = _circle(*points) if kind == "circle" else [f(axis) for f in (min, max) for axis in zip(*points, strict=True)]
        x1, y1, x2, y2 = box
    except (KeyError, TypeError, ValueError):
        problems.append(Problem(file, f"points must be pairs of numbers, got {shape.get('points')!r}", image, number))
        return
    usable, problem = checked_box([x1, y1, x2, y2], width=record["width"], height=record["height"], file=file, image=image, annotation=number)
    if problem:
        problems.append(problem)
    if usable:
        record["annotations"].append({"bbox": usable, "bbox_mode": BoxMode.XYXY_ABS, "category_id": classes.index(label), "iscrowd": 0})


def _circle(centre: tuple[float, float], edge: tuple[float, float]) -> list[float]:
    """XYXY of a circle from its centre and a point of its edge."""
    radius = math.dist(centre, edge)
    return [centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius]
