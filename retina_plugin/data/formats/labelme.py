"""labelme: a JSON per image, with shapes drawn by hand (https://github.com/wkentaro/labelme)."""

import math
import os
from collections import defaultdict
from pathlib import Path

from retina_plugin.data.boxes import extent
from retina_plugin.data.files import Listing, forms_of, is_regular, split_of
from retina_plugin.data.formats.base import FORMAT_REGISTRY, AnnotationFormat, Found, Reading, Refused
from retina_plugin.data.image_files import SUFFIXES
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_flag, as_name, as_number, as_size
from retina_plugin.text import read_bytes, read_json

WITHOUT_AREA = ("point", "points", "line", "linestrip")
"""Shapes that have no box."""


@FORMAT_REGISTRY.register("labelme")
class LabelmeFormat(AnnotationFormat):
    """A folder of JSON files. A source has "annotations": the folder; its subfolders are sources of their own."""

    name, title = "labelme", "labelme JSON"

    def recognise(self, listing: Listing) -> Found:
        """Folders with JSON files that have a list of shapes and an image; a folder's name says its split."""
        found, folders, classes, broken = Found(), defaultdict(list), set(), []
        for file in listing.with_suffix(".json"):
            folder = os.path.dirname(file)
            try:
                data = read_json(listing.path(file))
            except (FileNotFoundError, ValueError) as error:
                if _looks_like_labelme(listing.path(file)):
                    broken.append(Refused(file, str(error), split_of([folder])))
                continue
            if _is_labelme(data):
                folders[folder].append(file)
                classes |= {
                    as_name(shape.get("label"))
                    for shape in data["shapes"]
                    if isinstance(shape, dict) and isinstance(_box(shape), list)
                }
        for folder, files in folders.items():
            found.add(split_of([folder]), {"annotations": folder or "."}, files)
        found.refused = [
            refused for refused in broken if os.path.dirname(refused.file) not in folders
        ]  # reading names the others
        found.classes = sorted(classes - {None})
        return found

    def read(self, source: dict, reading: Reading) -> None:
        """Read every JSON of the folder; one that is of another kind is passed over.

        Raises:
            ValueError: it is no folder.
        """
        folder = reading.path("annotations")
        reading.path("images", default=".")
        if not folder.is_dir():
            raise ValueError(f"{folder} is a file, where a folder of JSON files is expected")
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() == ".json" and not file.name.startswith("."):
                self._read_file(file, reading)

    def _read_file(self, file: Path, reading: Reading) -> None:
        try:
            data = read_json(file)
        except (FileNotFoundError, ValueError) as error:
            reading.problem(Kind.FILE, file, str(error), file.stem, images=1)
            return
        if not _is_labelme(data):
            if _beside(file):
                reading.problem(
                    Kind.FILE,
                    file,
                    "is no labelme file: it has no list of shapes and no imagePath",
                    file.stem,
                    images=1,
                )
            return
        name, shapes = str(file), data["shapes"]
        reading.files.add(name)
        if "imageHeight" in data or "imageWidth" in data:
            reading.metadata["says_sizes"] = True
        size = as_size(data.get("imageHeight")), as_size(data.get("imageWidth"))
        before = len(reading.records)
        image = reading.image(
            _image_of(data.get("imagePath"), file, reading),
            file=name,
            size=size if None not in size else (None, None),
            boxes=len(shapes),
        )
        if image is None:
            return
        image_id = reading.records[image]["image_id"]
        if image < before:
            reading.problem(
                Kind.MERGED,
                name,
                "is about an image that another file is about, too",
                image_id,
                done="united",
                images=1,
            )
        for number, shape in enumerate(shapes, start=1):
            box = _box(shape)
            if isinstance(box, str):
                reading.problem(Kind.ANNOTATION, name, box, image_id, number, boxes=1)
                continue
            label = reading.label_of(shape.get("label"), file=name)
            if label is not None:
                reading.box(image, label, box, item=number, crowd=_is_difficult(shape))


def _image_of(said: object, file: Path, reading: Reading) -> object:
    """The name by which to look for the image: as the file says it, or the image beside the file that has its name."""
    beside = _beside(file)
    if not isinstance(said, str) or not said.strip() or "\0" in said:
        return beside or said
    forms = forms_of(said)
    for form in forms:
        path = os.path.normpath(os.path.join(file.parent, form))
        if os.path.splitext(path)[1].lower() in SUFFIXES and is_regular(path):
            return path
    if beside and os.path.splitext(os.path.basename(forms[-1]))[0] == file.stem:
        return beside
    try:
        reading.finder.find(said, near=file.parent)
    except LookupError:
        return beside or said
    return said


def _beside(file: Path) -> str | None:
    """The image beside a JSON that has its name but for the ending."""
    for suffix in sorted(SUFFIXES):
        for form in (suffix, suffix.upper()):
            if is_regular(path := file.with_suffix(form)):
                return str(path)
    return None


def _box(shape: object) -> list[float] | str:
    """XYXY of a shape, or what is wrong with it.

    Example:
        >>> _box({"shape_type": "rectangle", "points": [[30, 60], [10, 20]]}), _box({"shape_type": "circle", "points": [[50, 50], [53, 54]]})
        ([10.0, 20.0, 30.0, 60.0], [45.0, 45.0, 55.0, 55.0])
    """
    if not isinstance(shape, dict):
        return f"a shape must be a mapping, got {shown(shape)}"
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if kind in WITHOUT_AREA:
        return f"a {kind} has no box"
    pairs = isinstance(points, list) and all(isinstance(point, list) and len(point) == 2 for point in points)
    box = extent(points) if pairs else None
    if box is None:
        return f"points must be at least two pairs of numbers, got {shown(points)}"
    if kind == "circle":
        (x, y), edge = ([as_number(value) for value in point] for point in points[:2])
        radius = math.dist((x, y), edge)
        return [x - radius, y - radius, x + radius, y + radius]
    return box


def _is_difficult(shape: dict) -> bool:
    flags = shape.get("flags")
    return as_flag(shape.get("difficult")) or (
        isinstance(flags, dict)
        and any(as_flag(on) for flag, on in flags.items() if flag.strip().lower() == "difficult")
    )


def _is_labelme(data: object) -> bool:
    return (
        isinstance(data, dict) and isinstance(data.get("shapes"), list) and ("imagePath" in data or "imageData" in data)
    )


def _looks_like_labelme(path: Path) -> bool:
    """Whether a file that is no JSON was to be labelme's: by the names of its parts."""
    try:
        data = read_bytes(path)
    except (FileNotFoundError, ValueError):
        return False
    return b'"shapes"' in data[: 1 << 20] and any(
        key in data for key in (b'"imagePath"', b'"imageData"', b'"shape_type"')
    )
