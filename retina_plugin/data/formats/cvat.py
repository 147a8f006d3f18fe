"""CVAT for images 1.1: one XML file for many images.

Source: https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/
"""

import math
import os
from pathlib import Path
from xml.etree import ElementTree

from retina_plugin.data.boxes import extent
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
from retina_plugin.data.formats.via_regions import box_of_ellipse
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_flag, as_name, as_number, as_size
from retina_plugin.text import read_bytes, read_xml

SHAPES = ("box", "polygon", "ellipse", "mask", "polyline", "points", "cuboid", "skeleton")
"""Elements of an image that are objects; only the first four have a box."""

TYPES_WITHOUT_BOX = ("tag", "points", "polyline", "cuboid", "skeleton")
"""Types of labels whose objects have no box."""

CROWD_ATTRIBUTES = ("difficult", "iscrowd", "is_crowd")


@FORMAT_REGISTRY.register("cvat")
class CvatFormat(AnnotationFormat):
    """One XML file.

    A source has "annotations" (the file), and may have "images" (the folder to which names are relative) and "only"
    (the subset of the file to read, or the split that the name of the subset means).
    """

    name, title = "cvat", "CVAT XML"

    def recognise(self, listing: Listing) -> Found:
        """Find every XML file whose root is <annotations> with images; subsets named like splits become splits."""
        found = Found()
        for file in listing.with_suffix(".xml"):
            folder, name = os.path.split(file)
            split = split_of([folder, os.path.splitext(name)[0]])
            try:
                tree, _ = read_xml(listing.path(file))
            except (FileNotFoundError, ValueError) as error:
                if _looks_like_cvat(listing.path(file)):
                    found.refused.append(Refused(file, str(error), split))
                continue
            if tree.tag != "annotations":
                continue
            images = tree.findall("image")
            if not images and tree.find("track") is None and tree.find("meta") is None:
                continue
            if reason := _reason_against(tree, images):
                found.refused.append(Refused(file, reason, split))
                continue
            names = [image.get("name") or "" for image in images]
            source: Source = {"images": folder_of_images(listing, names, folder, split), "annotations": file}
            for only in dict.fromkeys(_split_of_subset(subset) for subset in _subsets(images)):
                found.add(only or split, {**source, "only": only} if only else source, [file], _classes_of(tree))
        return found

    def read(self, source: Source, reading: Reading) -> None:
        """Read the file.

        Raises:
            ValueError: the file is not in the format "CVAT for images".
        """
        path = reading.path("annotations")
        reading.path("images", default=".")
        only = source.get("only")
        if only is not None and not isinstance(only, str):
            raise ValueError(f"only must be the name of a subset, got {only!r}")
        tree, guessed = read_xml(path)
        if tree.tag != "annotations":
            raise ValueError(f"{path} is not a CVAT for images file: its root is <{tree.tag}>, not <annotations>")
        if tree.find("track") is not None:
            raise ValueError(f"{path} is not a CVAT for images file: it has tracks")
        file = str(path)
        reading.files.add(file)
        reading.metadata["says_sizes"] = True
        if guessed:
            reading.problem(Kind.ENCODING, file, f"is read as {guessed}", done="used")
        for node in tree.findall("image"):
            if only is None or _meaning(node.get("subset") or "") == _meaning(only):
                self._read_image(node, file, reading)

    @staticmethod
    def _read_image(node: ElementTree.Element, file: str, reading: Reading) -> None:
        """Read an image and its objects."""
        objects = [child for child in node if child.tag in SHAPES]
        height, width = as_size(node.get("height")), as_size(node.get("width"))
        size = (height, width) if height is not None and width is not None else (None, None)
        before = len(reading.records)
        image = reading.image(node.get("name"), file=file, size=size, boxes=len(objects))
        if image is None:
            return
        image_id = reading.records[image]["image_id"]
        if image < before:
            reading.problem(Kind.MERGED, file, "is listed twice", image_id, done="merged", images=1)
        for number, child in enumerate(objects, start=1):
            box = box_of(child)
            if isinstance(box, str):
                reading.problem(Kind.ANNOTATION, file, box, image_id, number, boxes=1)
                continue
            label = reading.label_of(child.get("label"), file=file)
            if label is not None:
                reading.box(image, label, box, item=number, crowd=_is_difficult(child))


def box_of(node: ElementTree.Element) -> list[float] | str:
    """Return the XYXY box of a shape, around it if it is rotated, or what is wrong with it.

    Example:
        >>> box_of(ElementTree.fromstring('<box xtl="0" ytl="10" xbr="20" ybr="20" rotation="90"/>'))
        [5.0, 5.0, 15.0, 25.0]
        >>> box_of(ElementTree.fromstring('<polygon points="4,4;24,4;24.5,30"/>'))
        [4.0, 4.0, 24.5, 30.0]
        >>> box_of(ElementTree.fromstring('<points/>'))
        'points has no box; box, polygon, ellipse and mask have one'
    """
    if node.tag == "polygon":
        points = [pair.split(",") for pair in (node.get("points") or "").strip().strip(";").split(";")]
        box = extent(points) if all(len(point) == 2 for point in points) else None
        return box if box is not None else f'polygon must have points "x,y;x,y;...", got {shown(node.get("points"))!r}'
    keys = {
        "box": ("xtl", "ytl", "xbr", "ybr"),
        "ellipse": ("cx", "cy", "rx", "ry"),
        "mask": ("left", "top", "width", "height"),
    }.get(node.tag)
    if keys is None:
        return f"{node.tag} has no box; box, polygon, ellipse and mask have one"
    numbers = [number for key in keys if (number := as_number(node.get(key))) is not None]
    if len(numbers) < len(keys):
        got = ", ".join(shown(node.get(key)) for key in keys)
        return f"{node.tag} must have the numbers {', '.join(keys)}, got {got}"
    degrees = as_number(node.get("rotation") or 0)
    if degrees is None:
        return f"rotation must be a number of degrees, got {shown(node.get('rotation'))!r}"
    a, b, c, d = numbers
    if node.tag == "mask":
        return [a, b, a + c, b + d]
    if node.tag == "ellipse":
        return box_of_ellipse(a, b, c, d, math.radians(degrees))
    return numbers if degrees == 0 else _around_rotated(numbers, math.radians(degrees))


def _around_rotated(box: list[float], angle: float) -> list[float]:
    """Return the XYXY box around a box that is rotated about its centre.

    A box with swapped corners is returned unchanged, so that it is reported later.

    Args:
        box: XYXY.
        angle: radians.
    """
    if not math.isfinite(angle):
        return [math.nan] * 4
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        return box
    cos, sin = abs(round(math.cos(angle), 12)), abs(round(math.sin(angle), 12))  # rounded: a quarter turn is exact
    half_width = ((x2 - x1) * cos + (y2 - y1) * sin) / 2
    half_height = ((x2 - x1) * sin + (y2 - y1) * cos) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return [x - half_width, y - half_height, x + half_width, y + half_height]


def _subsets(images: list[ElementTree.Element]) -> list[str]:
    """Return the subsets of images, each once; "" for images without a subset."""
    return list(dict.fromkeys(image.get("subset") or "" for image in images))


def _split_of_subset(subset: str) -> str | None:
    """Return the split that the name of a subset means, or None."""
    return SPLIT_WORDS.get(subset.strip().lower())


def _meaning(subset: str) -> str:
    """Return the split that the name of a subset means, or the name itself."""
    return _split_of_subset(subset) or subset


def _reason_against(tree: ElementTree.Element, images: list[ElementTree.Element]) -> str | None:
    """Return why a file of CVAT cannot be read, or None if it can."""
    if tree.find("track") is not None:
        return "is in CVAT's format for video (tracks), which is not supported: export it as CVAT for images"
    if not images:
        return "is a CVAT file without images"
    subsets = _subsets(images)
    others = [subset for subset in subsets if _split_of_subset(subset) is None]
    if others and len(others) < len(subsets):
        unknown = ", ".join(repr(shown(subset)) for subset in others)
        return f"has the subsets {', '.join(map(shown, subsets))}; expected train, val and test only, not {unknown}"
    return None


def _is_difficult(node: ElementTree.Element) -> bool:
    """Return whether an object is marked as difficult or crowd."""
    return any(
        (attribute.get("name") or "").lower() in CROWD_ATTRIBUTES and as_flag(attribute.text)
        for attribute in node.findall("attribute")
    )


def _classes_of(tree: ElementTree.Element) -> list[str]:
    """Return the labels that may have boxes in the order of the task, then those that only occur in boxes."""
    used = dict.fromkeys(
        as_name(child.get("label"))
        for image in tree.findall("image")
        for child in image
        if child.tag in SHAPES and isinstance(box_of(child), list)
    )
    names: dict[str, None] = {}
    meta = tree.find("meta")
    for labels in meta.iter("labels") if meta is not None else ():
        for label in labels.findall("label"):
            name = as_name(label.findtext("name"))
            if name is not None and (name in used or label.findtext("type") not in TYPES_WITHOUT_BOX):
                names[name] = None
    names.update((name, None) for name in used if name is not None)
    return list(names)


def _looks_like_cvat(path: Path) -> bool:
    """Return whether a file that is not valid XML contains CVAT's root and images."""
    try:
        start = read_bytes(path)[: 1 << 20]
    except (FileNotFoundError, ValueError):
        return False
    return b"<annotations" in start and b"<image" in start
