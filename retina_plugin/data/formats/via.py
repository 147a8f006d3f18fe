"""VGG Image Annotator (VIA), versions 1 and 2: one JSON file for many images.

Source: https://www.robots.ox.ac.uk/~vgg/software/via/
"""

import os
from pathlib import Path

from retina_plugin.data.files import Listing, split_of
from retina_plugin.data.formats.base import (
    FORMAT_REGISTRY,
    AnnotationFormat,
    Found,
    Reading,
    Refused,
    Source,
    folder_of_images,
)
from retina_plugin.data.formats.via_regions import (
    attributes_of,
    box_of_shape,
    class_attribute,
    class_of,
    stated_attribute,
    take_region,
)
from retina_plugin.data.problems import Kind, shown
from retina_plugin.text import read_bytes, read_json


@FORMAT_REGISTRY.register("via")
class ViaFormat(AnnotationFormat):
    """One JSON file per split.

    A source has "annotations" (the file), and may have "images" (the folder to which file names are relative) and
    "class_attribute" (the attribute of regions that holds the class, if they have several).
    """

    name, title = "via", "VIA JSON"

    def recognise(self, listing: Listing) -> Found:
        """Find every JSON that maps keys to entries with a filename and regions, also inside a project of VIA 2."""
        found = Found()
        classes: set[str] = set()
        for file in listing.with_suffix(".json"):
            folder, name = os.path.split(file)
            split = split_of([folder, os.path.splitext(name)[0]])
            try:
                data = read_json(listing.path(file))
            except (FileNotFoundError, ValueError) as error:
                if _looks_like_via(listing.path(file)):
                    found.refused.append(Refused(file, str(error), split))
                continue
            if _is_via_3(data):
                reason = "is a project of VIA 3, which is not supported: export its annotations as COCO"
                found.refused.append(Refused(file, reason, split))
            if (entries := _entries_of(data)) is None:
                continue
            if not entries:
                found.unused[file] = "is a VIA project without images"
                continue
            regions = _attributes_of_boxes(entries)
            attribute = class_attribute(regions)
            classes |= {label for region in regions if (label := class_of(region, attribute)) is not None}
            named = [entry for entry in entries if isinstance(entry, dict)]
            names = [entry["filename"] for entry in named if isinstance(entry.get("filename"), str)]
            source: Source = {"images": folder_of_images(listing, names, folder, split), "annotations": file}
            if attribute is not None and len({key for region in regions for key in region}) > 1:
                source["class_attribute"] = attribute
            found.add(split, source, [file])
        found.classes = sorted(classes)
        return found

    def read(self, source: Source, reading: Reading) -> None:
        """Read the file.

        Raises:
            ValueError: the file is not a VIA JSON.
        """
        path = reading.path("annotations")
        reading.path("images", default=".")
        file, data = str(path), read_json(path)
        entries = _entries_of(data)
        if entries is None:
            raise ValueError(f"{path} is not a VIA JSON: it must map keys to entries with a filename and regions")
        reading.files.add(file)
        attribute = stated_attribute(source) or class_attribute(_attributes_of_boxes(entries))
        for position, entry in enumerate(entries):
            regions = _regions_of(entry) if isinstance(entry, dict) else None
            if regions is None:
                what = f"image number {position} must have a filename and regions, got {shown(entry)}"
                reading.problem(Kind.ANNOTATION, file, what, images=1)
                continue
            before = len(reading.records)
            image = reading.image(entry.get("filename"), file=file, boxes=len(regions))
            if image is None:
                continue
            image_id = reading.records[image]["image_id"]
            if image < before:
                reading.problem(Kind.MERGED, file, "is listed twice", image_id, done="merged", images=1)
            for number, region in enumerate(regions, start=1):
                _read_region(region, number, image, attribute, file, reading)


def _read_region(region: object, number: int, image: int, attribute: str | None, file: str, reading: Reading) -> None:
    """Read the region with this number (from 1) of an image."""
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    take_region(shape, attributes_of(region), image=image, attribute=attribute, file=file, item=number, reading=reading)


def _attributes_of_boxes(entries: list) -> list[dict]:
    """Return the attributes of all regions that have a box."""
    lists = [_regions_of(entry) for entry in entries if isinstance(entry, dict)]
    regions = [region for found in lists for region in found or [] if isinstance(region, dict)]
    boxes = [region for region in regions if isinstance(box_of_shape(region.get("shape_attributes")), list)]
    return [attributes_of(region) for region in boxes]


def _entries_of(data: object) -> list | None:
    """Return the image entries of a VIA JSON; None if the JSON is not VIA's."""
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("_via_img_metadata"), dict):
        return list(data["_via_img_metadata"].values())
    entries = list(data.values())
    good = sum(isinstance(entry, dict) and "filename" in entry and _regions_of(entry) is not None for entry in entries)
    return entries if good and 2 * good > len(entries) else None


def _regions_of(entry: dict) -> list | None:
    """Return the regions of an image, which are a list (version 2) or a mapping (version 1); None if neither."""
    regions = entry.get("regions")
    if isinstance(regions, dict):
        return list(regions.values())
    return regions if isinstance(regions, list) else None


def _is_via_3(data: object) -> bool:
    """Return whether a JSON is a project of VIA 3."""
    return isinstance(data, dict) and isinstance(data.get("project"), dict) and {"metadata", "view"} <= set(data)


def _looks_like_via(path: Path) -> bool:
    """Return whether a file that is not valid JSON contains the keys of a VIA JSON."""
    try:
        start = read_bytes(path)[: 1 << 20]
    except (FileNotFoundError, ValueError):
        return False
    return b'"_via_img_metadata"' in start or (b'"regions"' in start and b'"shape_attributes"' in start)
