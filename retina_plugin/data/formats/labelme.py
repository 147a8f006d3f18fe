"""labelme: one JSON file per image, with shapes drawn by hand (https://github.com/wkentaro/labelme)."""

import json
import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from retina_plugin.data.boxes import extent
from retina_plugin.data.files import Listing, forms_of, is_regular, split_of
from retina_plugin.data.formats.base import (
    FORMAT_REGISTRY,
    AnnotationFormat,
    Found,
    Reading,
    Refused,
    Source,
    with_unique_stems,
)
from retina_plugin.data.formats.yolo import link_or_copy
from retina_plugin.data.image_files import SUFFIXES
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_flag, as_name, as_number, as_size
from retina_plugin.text import read_bytes, read_json

LABELME_VERSION = "5.5.0"
"""Version of labelme whose layout is written."""

WITHOUT_AREA = ("point", "points", "line", "linestrip")
"""Shapes that have no box."""


@FORMAT_REGISTRY.register("labelme")
class LabelmeFormat(AnnotationFormat):
    """A folder of JSON files.

    A source has "annotations" (the folder); each subfolder is a source of its own.
    """

    name, title = "labelme", "labelme JSON"

    def recognise(self, listing: Listing) -> Found:
        """Find the folders with JSON files that have a list of shapes and an image; the folder's name is the split."""
        found = Found()
        folders: dict[str, list[str]] = defaultdict(list)
        classes: set[str] = set()
        for file in listing.with_suffix(".json"):
            folder = os.path.dirname(file)
            try:
                data = _as_labelme(read_json(listing.path(file)))
            except (FileNotFoundError, ValueError) as error:
                if _looks_like_labelme(listing.path(file)):
                    found.refused.append(Refused(file, str(error), split_of([folder])))
                continue
            if data is not None:
                folders[folder].append(file)
                classes |= _classes_of(data["shapes"])
        for folder, files in folders.items():
            found.add(split_of([folder]), {"annotations": folder or "."}, files)
        # A broken file among good ones is reported when its folder is read.
        found.refused = [refused for refused in found.refused if os.path.dirname(refused.file) not in folders]
        found.classes = sorted(classes)
        return found

    def read(self, source: Source, reading: Reading) -> None:
        """Read every JSON file of the folder; files of other kinds are skipped.

        Raises:
            ValueError: the path is not a folder.
        """
        folder = reading.path("annotations")
        reading.path("images", default=".")
        if not folder.is_dir():
            raise ValueError(f"{folder} is a file, but a folder of JSON files is expected")
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() == ".json" and not file.name.startswith("."):
                self._read_file(file, reading)

    def _read_file(self, file: Path, reading: Reading) -> None:
        """Read the image and the shapes of one file."""
        try:
            content = read_json(file)
        except (FileNotFoundError, ValueError) as error:
            reading.problem(Kind.FILE, file, str(error), file.stem, images=1)
            return
        data = _as_labelme(content)
        if data is None:
            if _image_next_to(file):
                what = "is not a labelme file: it must have a list of shapes, and imagePath or imageData"
                reading.problem(Kind.FILE, file, what, file.stem, images=1)
            return
        name, shapes = str(file), data["shapes"]
        reading.files.add(name)
        if "imageHeight" in data or "imageWidth" in data:
            reading.metadata["says_sizes"] = True
        height, width = as_size(data.get("imageHeight")), as_size(data.get("imageWidth"))
        size = (height, width) if height is not None and width is not None else (None, None)
        before = len(reading.records)
        named = _image_of(data.get("imagePath"), file, reading)
        image = reading.image(named, file=name, size=size, boxes=len(shapes))
        if image is None:
            return
        image_id = reading.records[image]["image_id"]
        if image < before:
            what = "describes an image that another file describes, too"
            reading.problem(Kind.MERGED, name, what, image_id, done="merged", images=1)
        for number, shape in enumerate(shapes, start=1):
            box = _box(shape)
            if isinstance(box, str):
                reading.problem(Kind.ANNOTATION, name, box, image_id, number, boxes=1)
                continue
            label = reading.label_of(shape.get("label"), file=name)
            if label is not None:
                reading.box(image, label, box, item=number, crowd=_is_difficult(shape))

    def write(self, records: dict[str, list[dict]], classes: list[str], folder: Path) -> dict[str, list[Source]]:
        """Write <split>/*.json, one per image, next to links to the images, as the program expects them.

        The images are copied if the file system has no links. Crowd regions are marked as difficult.
        """
        splits: dict[str, list[Source]] = {}
        for split, found in records.items():
            names = with_unique_stems(found)
            (folder / split).mkdir()
            for record in found:
                image = Path(record["file_name"])
                target = folder / split / f"{names[id(record)]}{image.suffix}"
                link_or_copy(image, target)
                content = {
                    "version": LABELME_VERSION,
                    "flags": {},
                    "shapes": [_shape_of(x, classes) for x in record["annotations"]],
                    "imagePath": target.name,
                    "imageData": None,
                    "imageHeight": record["height"],
                    "imageWidth": record["width"],
                }
                text = json.dumps(content, ensure_ascii=False, indent=1)
                target.with_suffix(".json").write_text(text, encoding="utf-8")
            splits[split] = [{"annotations": split}]
        return splits


def _shape_of(annotation: dict, classes: list[str]) -> dict:
    """Return a box as a shape of labelme; the score of a predicted box becomes its description."""
    x1, y1, x2, y2 = (round(float(v), 2) for v in annotation["bbox"])
    return {
        "label": classes[annotation["category_id"]],
        "points": [[x1, y1], [x2, y2]],
        "group_id": None,
        "description": f"score {annotation['score']:.3f}" if "score" in annotation else "",
        "shape_type": "rectangle",
        "flags": {"difficult": True} if annotation.get("iscrowd") else {},
    }


def _classes_of(shapes: list) -> set[str]:
    """Return the names of the classes of all shapes that have a box."""
    boxes = [shape for shape in shapes if isinstance(shape, dict) and isinstance(_box(shape), list)]
    return {name for shape in boxes if (name := as_name(shape.get("label"))) is not None}


def _image_of(said: object, file: Path, reading: Reading) -> object:
    """Return the name by which to find the image of a file.

    Args:
        said: the file's imagePath, whatever it is.
        file: the JSON file. An image of the same name next to it is used if imagePath leads nowhere.
        reading: finds images.
    """
    neighbour = _image_next_to(file)
    if not isinstance(said, str) or not said.strip() or "\0" in said:
        return neighbour or said
    forms = forms_of(said)
    for form in forms:
        path = os.path.normpath(os.path.join(file.parent, form))
        if os.path.splitext(path)[1].lower() in SUFFIXES and is_regular(path):
            return path
    if neighbour and os.path.splitext(os.path.basename(forms[-1]))[0] == file.stem:
        return neighbour
    try:
        reading.finder.find(said, near=file.parent)
    except LookupError:
        return neighbour or said
    return said


def _image_next_to(file: Path) -> str | None:
    """Return the image that has the same path as a JSON file except for the suffix, or None."""
    for suffix in sorted(SUFFIXES):
        for form in (suffix, suffix.upper()):
            if is_regular(path := file.with_suffix(form)):
                return str(path)
    return None


def _box(shape: object) -> list[float] | str:
    """Return the XYXY box of a shape, or what is wrong with it.

    Example:
        >>> _box({"shape_type": "rectangle", "points": [[30, 60], [10, 20]]})
        [10.0, 20.0, 30.0, 60.0]
        >>> _box({"shape_type": "circle", "points": [[50, 50], [53, 54]]})
        [45.0, 45.0, 55.0, 55.0]
    """
    if not isinstance(shape, dict):
        return f"a shape must be a mapping, got {shown(shape)}"
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if kind in WITHOUT_AREA:
        return f"a {kind} has no box"
    pairs = points if isinstance(points, list) else []
    box = extent(pairs) if all(isinstance(point, list) and len(point) == 2 for point in pairs) else None
    if box is None:
        return f"points must be at least two pairs of numbers, got {shown(points)}"
    if kind == "circle":  # its centre, then a point on its edge
        numbers = (as_number(value) for point in pairs[:2] for value in point)
        x, y, edge_x, edge_y = (number for number in numbers if number is not None)  # none is: there is a box
        radius = math.dist((x, y), (edge_x, edge_y))
        return [x - radius, y - radius, x + radius, y + radius]
    return box


def _is_difficult(shape: dict) -> bool:
    """Return whether a shape is marked as difficult, by itself or by a flag."""
    flags = shape.get("flags")
    marks = [on for flag, on in flags.items() if flag.strip().lower() == "difficult"] if isinstance(flags, dict) else []
    return as_flag(shape.get("difficult")) or any(map(as_flag, marks))


def _as_labelme(data: object) -> dict[str, Any] | None:
    """Return the content of a JSON file if it is labelme's, else None."""
    if not isinstance(data, dict) or not isinstance(data.get("shapes"), list):
        return None
    return data if "imagePath" in data or "imageData" in data else None


def _looks_like_labelme(path: Path) -> bool:
    """Return whether a file that is not valid JSON contains the keys of a labelme file."""
    try:
        data = read_bytes(path)
    except (FileNotFoundError, ValueError):
        return False
    keys = (b'"imagePath"', b'"imageData"', b'"shape_type"')
    return b'"shapes"' in data[: 1 << 20] and any(key in data for key in keys)
