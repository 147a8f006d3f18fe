"""VGG Image Annotator 2 and 1: a JSON for many images (https://www.robots.ox.ac.uk/~vgg/software/via/)."""

import os
from pathlib import Path

from retina_plugin.data.files import Listing, split_of
from retina_plugin.data.formats.base import FORMAT_REGISTRY, AnnotationFormat, Found, Reading, Refused, Source
from retina_plugin.data.formats.coco import folder_of_images
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
    """A JSON a split. A source has "annotations" (the file), and may have "images" (the folder from which file names count) and
    "class_attribute": the attribute of regions that is the class, where they have several.
    """

    name, title = "via", "VIA JSON"

    def recognise(self, listing: Listing) -> Found:
        """Every JSON that maps keys to entries with a filename and regions, alone or as "_via_img_metadata" of a project."""
        found, classes = Found(), set()
        for file in listing.with_suffix(".json"):
            folder, name = os.path.split(file)
            split = split_of([folder, os.path.splitext(name)[0]])
            try:
                data = read_json(listing.path(file))
            except (FileNotFoundError, ValueError) as error:
                if _looks_like_via(listing.path(file)):
                    found.refused.append(Refused(file, str(error), split))
                continue
            if isinstance(data, dict) and isinstance(data.get("project"), dict) and {"metadata", "view"} <= set(data):
                found.refused.append(
                    Refused(file, "is a project of VIA 3, which is not read: export its annotations as COCO", split)
                )
            if (entries := _entries_of(data)) is None:
                continue
            if not entries:
                found.unused[file] = "is a VIA project without images"
                continue
            regions = _attributes_of_boxes(entries)
            attribute = class_attribute(regions)
            classes |= {class_of(region, attribute) for region in regions}
            names = [
                entry["filename"]
                for entry in entries
                if isinstance(entry, dict) and isinstance(entry.get("filename"), str)
            ]
            source: Source = {"images": folder_of_images(listing, names, folder, split), "annotations": file}
            if attribute is not None and len({key for region in regions for key in region}) > 1:
                source["class_attribute"] = attribute
            found.add(split, source, [file])
        found.classes = sorted(classes - {None})
        return found

    def read(self, source: Source, reading: Reading) -> None:
        """Read the file.

        Raises:
            ValueError: it is no JSON of VIA.
        """
        path = reading.path("annotations")
        reading.path("images", default=".")
        file, data = str(path), read_json(path)
        entries = _entries_of(data)
        if entries is None:
            raise ValueError(f"{path} is no JSON of VIA: it does not map keys to entries with a filename and regions")
        reading.files.add(file)
        attribute = stated_attribute(source) or class_attribute(_attributes_of_boxes(entries))
        for position, entry in enumerate(entries):
            regions = _regions_of(entry) if isinstance(entry, dict) else None
            if regions is None:
                reading.problem(
                    Kind.ANNOTATION,
                    file,
                    f"image number {position} must have a filename and regions, got {shown(entry)}",
                    images=1,
                )
                continue
            before = len(reading.records)
            image = reading.image(entry.get("filename"), file=file, boxes=len(regions))
            if image is None:
                continue
            image_id = reading.records[image]["image_id"]
            if image < before:
                reading.problem(Kind.MERGED, file, "is listed twice", image_id, done="united", images=1)
            for number, region in enumerate(regions, start=1):
                _read_region(region, number, image, attribute, file, reading)


def _read_region(region: object, number: int, image: int, attribute: str | None, file: str, reading: Reading) -> None:
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    take_region(shape, attributes_of(region), image=image, attribute=attribute, file=file, item=number, reading=reading)


def _attributes_of_boxes(entries: list) -> list[dict]:
    """The attributes of all regions that have a box."""
    regions = (
        region
        for entry in entries
        if isinstance(entry, dict)
        for region in _regions_of(entry) or []
        if isinstance(region, dict)
    )
    return [
        attributes_of(region) for region in regions if isinstance(box_of_shape(region.get("shape_attributes")), list)
    ]


def _entries_of(data: object) -> list | None:
    """The entries of images of a JSON, or None if it is none of VIA."""
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("_via_img_metadata"), dict):
        return list(data["_via_img_metadata"].values())
    entries = list(data.values())
    good = sum(isinstance(entry, dict) and "filename" in entry and _regions_of(entry) is not None for entry in entries)
    return entries if good and 2 * good > len(entries) else None


def _regions_of(entry: dict) -> list | None:
    """Regions as a list (version 2) or a mapping (version 1); None if there are none."""
    regions = entry.get("regions")
    if isinstance(regions, dict):
        return list(regions.values())
    return regions if isinstance(regions, list) else None


def _looks_like_via(path: Path) -> bool:
    """Whether a file that is no JSON was to be VIA's: by the names of its parts."""
    try:
        start = read_bytes(path)[: 1 << 20]
    except (FileNotFoundError, ValueError):
        return False
    return b'"_via_img_metadata"' in start or (b'"regions"' in start and b'"shape_attributes"' in start)
