"""CVAT for images 1.1: an XML for many images (https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/)."""

import math
import os
from pathlib import Path
from xml.etree import ElementTree

from retina_plugin.data.boxes import extent
from retina_plugin.data.files import SPLIT_WORDS, Listing, split_of
from retina_plugin.data.formats.base import FORMAT_REGISTRY, AnnotationFormat, Found, Reading, Refused, Source
from retina_plugin.data.formats.coco import folder_of_images
from retina_plugin.data.formats.via_regions import box_of_ellipse
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_flag, as_name, as_number, as_size
from retina_plugin.text import read_bytes, read_xml

SHAPES = ("box", "polygon", "ellipse", "mask", "polyline", "points", "cuboid", "skeleton")
"""What may stand in an image and be meant as an object; the first four have a box."""

TYPES_WITHOUT_BOX = ("tag", "points", "polyline", "cuboid", "skeleton")


@FORMAT_REGISTRY.register("cvat")
class CvatFormat(AnnotationFormat):
    """An XML. A source has "annotations" (the file), and may have "images" (the folder from which names count) and "only": a split, the
    images of which the file has as a subset.
    """

    name, title = "cvat", "CVAT XML"

    def recognise(self, listing: Listing) -> Found:
        """Every XML of which the root is <annotations> with images; subsets of which the names mean splits are these."""
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
            if tree.find("track") is not None:
                found.refused.append(
                    Refused(
                        file,
                        "is CVAT's format for video (tracks), which is not read: export it as CVAT for images",
                        split,
                    )
                )
                continue
            if not images:
                if tree.find("meta") is not None:
                    found.refused.append(Refused(file, "is CVAT's, and has no image", split))
                continue
            subsets = dict.fromkeys(image.get("subset") or "" for image in images)
            parts = dict.fromkeys(SPLIT_WORDS.get(subset.strip().lower()) for subset in subsets)
            if None in parts and len(parts) > 1:
                others = [subset for subset in subsets if subset.strip().lower() not in SPLIT_WORDS]
                found.refused.append(
                    Refused(
                        file,
                        f"has the subsets {', '.join(map(shown, subsets))}; {', '.join(repr(shown(o)) for o in others)} is none of train, val and test",
                        split,
                    )
                )
                continue
            source: Source = {
                "images": folder_of_images(listing, [image.get("name") or "" for image in images], folder, split),
                "annotations": file,
            }
            for only in parts:
                found.add(only or split, {**source, "only": only} if only else source, [file], _classes_of(tree))
        return found

    def read(self, source: Source, reading: Reading) -> None:
        """Read the file.

        Raises:
            ValueError: it is none of CVAT's for images.
        """
        path = reading.path("annotations")
        reading.path("images", default=".")
        only = source.get("only")
        if only is not None and not isinstance(only, str):
            raise ValueError(f"only must be the name of a subset, got {only!r}")
        tree, guessed = read_xml(path)
        if tree.tag != "annotations" or tree.find("track") is not None:
            raise ValueError(
                f"{path} is no file of CVAT for images: "
                + ("it has tracks" if tree.tag == "annotations" else f"its root is <{tree.tag}>, not <annotations>")
            )
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
        objects = [child for child in node if child.tag in SHAPES]
        size = as_size(node.get("height")), as_size(node.get("width"))
        before = len(reading.records)
        image = reading.image(
            node.get("name"), file=file, size=size if None not in size else (None, None), boxes=len(objects)
        )
        if image is None:
            return
        image_id = reading.records[image]["image_id"]
        if image < before:
            reading.problem(Kind.MERGED, file, "is listed twice", image_id, done="united", images=1)
        for number, child in enumerate(objects, start=1):
            box = box_of(child)
            if isinstance(box, str):
                reading.problem(Kind.ANNOTATION, file, box, image_id, number, boxes=1)
                continue
            label = reading.label_of(child.get("label"), file=file)
            if label is not None:
                reading.box(image, label, box, item=number, crowd=_is_difficult(child))


def box_of(node: ElementTree.Element) -> list[float] | str:
    """XYXY of a shape, around it if it is turned, or what is wrong with it.

    Example:
        >>> box_of(ElementTree.fromstring('<box xtl="0" ytl="10" xbr="20" ybr="20" rotation="90"/>'))
        [5.0, 5.0, 15.0, 25.0]
        >>> box_of(ElementTree.fromstring('<polygon points="4,4;24,4;24.5,30"/>')), box_of(ElementTree.fromstring('<points/>'))
        ([4.0, 4.0, 24.5, 30.0], 'points has no box that is read')
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
        return f"{node.tag} has no box that is read"
    numbers = [as_number(node.get(key)) for key in keys]
    if None in numbers:
        return (
            f"{node.tag} must have the numbers {', '.join(keys)}, got {', '.join(shown(node.get(key)) for key in keys)}"
        )
    angle = as_number(node.get("rotation") or 0)
    if angle is None:
        return f"rotation must be a number of degrees, got {shown(node.get('rotation'))!r}"
    a, b, c, d = numbers
    if node.tag == "mask":
        return [a, b, a + c, b + d]
    if node.tag == "ellipse":
        return box_of_ellipse(a, b, c, d, math.radians(angle))
    return numbers if angle == 0 else _around_turned(numbers, math.radians(angle))


def _around_turned(box: list[float], angle: float) -> list[float]:
    """XYXY around a box that is turned about its centre, by an angle in radians; one with its corners swapped stays so."""
    if not math.isfinite(angle):
        return [math.nan] * 4
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        return box
    cos, sin = abs(round(math.cos(angle), 12)), abs(round(math.sin(angle), 12))  # a quarter turn is exact
    half_width, half_height = ((x2 - x1) * cos + (y2 - y1) * sin) / 2, ((x2 - x1) * sin + (y2 - y1) * cos) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return [x - half_width, y - half_height, x + half_width, y + half_height]


def _meaning(subset: str) -> str:
    return SPLIT_WORDS.get(subset.strip().lower(), subset)


def _is_difficult(node: ElementTree.Element) -> bool:
    return any(
        (attribute.get("name") or "").lower() in ("difficult", "iscrowd", "is_crowd") and as_flag(attribute.text)
        for attribute in node.findall("attribute")
    )


def _classes_of(tree: ElementTree.Element) -> list[str]:
    """Names of the labels that may have boxes, as the task lists them, then those that only boxes have."""
    meta = tree.find("meta")
    listed = [
        label for labels in (meta.iter("labels") if meta is not None else ()) for label in labels.findall("label")
    ]
    used = dict.fromkeys(
        as_name(child.get("label"))
        for image in tree.findall("image")
        for child in image
        if child.tag in SHAPES and isinstance(box_of(child), list)
    )
    names = [
        name
        for label in listed
        if (name := as_name(label.findtext("name"))) is not None
        and (name in used or label.findtext("type") not in TYPES_WITHOUT_BOX)
    ]
    return list(dict.fromkeys([*names, *(name for name in used if name is not None)]))


def _looks_like_cvat(path: Path) -> bool:
    """Whether a file that is no XML was to be CVAT's: by its root and its images."""
    try:
        start = read_bytes(path)[: 1 << 20]
    except (FileNotFoundError, ValueError):
        return False
    return b"<annotations" in start and b"<image" in start
