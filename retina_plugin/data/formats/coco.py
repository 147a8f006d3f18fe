"""COCO JSON, as written by COCO, CVAT, Label Studio, VIA, FiftyOne and Roboflow.

Source: https://cocodataset.org/#format-data
"""

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

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
from retina_plugin.data.formats.coco_boxes import box_of_annotation
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_flag, as_id, as_name, as_number, as_size
from retina_plugin.text import read_bytes, read_json

PARTS = ("images", "annotations", "categories")

SPLIT_ORDER = {"train": 0, None: 1, "val": 2}
"""Order in which the splits contribute their classes; all others come last."""


@FORMAT_REGISTRY.register("coco")
class CocoFormat(AnnotationFormat):
    """One JSON file per split.

    A source has "annotations" (the file) and "images" (the folder to which file names are relative).
    """

    name, title = "coco", "COCO JSON"

    def recognise(self, listing: Listing) -> Found:
        """Find every JSON file with images, annotations and categories, and the folder that has most of its images."""
        found = Found()
        tables: list[tuple[str | None, dict]] = []
        for file in listing.with_suffix(".json"):
            folder, name = os.path.split(file)
            split = split_of([folder, os.path.splitext(name)[0]])
            try:
                data = read_json(listing.path(file))
            except (FileNotFoundError, ValueError) as error:
                if _looks_like_coco(listing.path(file)):
                    found.refused.append(Refused(file, str(error), split))
                continue
            if _is_detections(data):
                found.unused[file] = "holds detections (image_id, score), not annotations"
                continue
            if not isinstance(data, dict) or not isinstance(data.get("images"), list):
                continue
            if not {"annotations", "categories"} & set(data):
                continue
            if reason := _reason_against(data):
                found.unused[file] = reason
                continue
            images = [image for image in data["images"] if isinstance(image, dict)]
            names = [image["file_name"] for image in images if isinstance(image.get("file_name"), str)]
            found.add(split, {"images": folder_of_images(listing, names, folder, split), "annotations": file}, [file])
            tables.append((split, data))
        for _, data in sorted(tables, key=lambda table: SPLIT_ORDER.get(table[0], 3)):
            found.classes += [name for name in _names_in_order(data) if name not in found.classes]
        return found

    def read(self, source: Source, reading: Reading) -> None:
        """Read the file.

        Categories are matched with the classes of the card by name, so their ids may have gaps and any order.

        Raises:
            ValueError: the file is not a COCO JSON, or none of its categories is a class of the card.
        """
        path = reading.path("annotations")
        reading.path("images", default=".")
        data = read_json(path)
        lacking = [part for part in PARTS if not isinstance(data, dict) or not isinstance(data.get(part), list)]
        if not isinstance(data, dict) or lacking:
            raise ValueError(
                f"{path} is not a COCO JSON with images, annotations and categories: it has no list of "
                + " and ".join(lacking)
            )
        file = str(path)
        reading.files.add(file)
        labels = self._labels(data["categories"], file, reading)
        annotations, data["annotations"] = data["annotations"], []
        boxes_of = Counter(_raw_image_id(annotation) for annotation in annotations)
        numbers = self._images(data["images"], boxes_of, file, reading)
        del data  # the annotations are all that is still needed of a large file
        self._annotations(annotations, numbers, labels, file, reading)

    @staticmethod
    def _labels(categories: list, file: str, reading: Reading) -> dict[int | str, int | str]:
        """Map each category id to its label, or to its name if the card does not have the category."""
        labels: dict[int | str, int | str] = {}
        for number, category in enumerate(categories):
            entry = category if isinstance(category, dict) else {}
            category_id, name = as_id(entry.get("id")), as_name(entry.get("name"))
            if category_id is None or name is None:
                what = f"category number {number} must have an id and a name, got {shown(category)}"
                reading.problem(Kind.ANNOTATION, file, what)
                continue
            label = reading.labels.get(name, name)
            if labels.setdefault(category_id, label) != label:
                what = f"category id {category_id!r} is used twice; {name!r} is the second"
                reading.problem(Kind.ANNOTATION, file, what)
        known = {number: label for number, label in labels.items() if isinstance(label, int)}
        if labels and not known:
            raise ValueError(
                f"{file} has the categories {list(labels.values())[:20]}; none of the card's classes "
                f"{reading.classes[:20]} is among them"
            )
        if len(set(known.values())) == len(known) and all(isinstance(number, int) for number in labels):
            reading.metadata["thing_dataset_id_to_contiguous_id"] = known
        return labels

    @staticmethod
    def _images(
        images: list, boxes_of: Counter[int | str | None], file: str, reading: Reading
    ) -> dict[int | str, int | None]:
        """Map each image id to the number of the image in the reading, or to None if the image is left out."""
        numbers: dict[int | str, int | None] = {}
        says_sizes = True
        for position, image in enumerate(images):
            if not isinstance(image, dict):
                what = f"image number {position} must be a mapping, got {shown(image)}"
                reading.problem(Kind.ANNOTATION, file, what, images=1)
                continue
            image_id, name = as_id(image.get("id")), image.get("file_name")
            if image_id is None:
                what = f"image number {position} must have a number or text as id, got {shown(image.get('id'))}"
                reading.problem(Kind.ANNOTATION, file, what, shown(name), images=1)
                continue
            if name is None:
                name = image.get("path") or image.get("filename")
            if image_id in numbers:
                what = f"image id is used twice; {shown(name)} is the second"
                reading.problem(Kind.ANNOTATION, file, what, image_id, images=1)
                continue
            says_sizes &= "height" in image or "width" in image
            before = len(reading.records)
            number = reading.image(
                name, file=file, image_id=image_id, size=_size_of(image), boxes=boxes_of.get(image.get("id"), 0)
            )
            numbers[image_id] = number
            if number is not None and len(reading.records) == before:
                what = f"{shown(name)} is listed twice; it is also image {reading.records[number]['image_id']!r}"
                reading.problem(Kind.MERGED, file, what, image_id, done="merged", images=1)
        reading.metadata["says_sizes"] = says_sizes
        return numbers

    @staticmethod
    def _annotations(
        annotations: list,
        numbers: dict[int | str, int | None],
        labels: dict[int | str, int | str],
        file: str,
        reading: Reading,
    ) -> None:
        """Add the box of each annotation, or report why it cannot be used."""
        for position, annotation in enumerate(annotations):
            if not isinstance(annotation, dict):
                what = f"annotation number {position} must be a mapping, got {shown(annotation)}"
                reading.problem(Kind.ANNOTATION, file, what, boxes=1)
                continue
            item = annotation.get("id", f"number {position}")
            image_id = annotation.get("image_id")
            if type(image_id) is not int:  # the common case needs no call
                image_id = as_id(image_id)
            if image_id is None or image_id not in numbers:
                what = "belongs to an image that is not listed"
                if image_id is None:
                    what = f"its image_id must be a number or text, got {shown(annotation.get('image_id'))}"
                reading.problem(Kind.LOST, file, what, image_id, item, boxes=1)
                continue
            image = numbers[image_id]
            if image is None:
                continue  # counted as lost when its image was reported
            category_id = annotation.get("category_id")
            if type(category_id) is not int:
                category_id = as_id(category_id)
            label = labels.get(category_id) if category_id is not None else None
            if label is None:
                what = f"category id {shown(annotation.get('category_id'))} is not in the categories"
                reading.problem(Kind.CLASSES, file, what, reading.records[image]["image_id"], item, boxes=1)
                continue
            if isinstance(label, str):  # a category that the card does not have
                reading.label_of(label, file=file)
                continue
            box = box_of_annotation(annotation)
            if isinstance(box, str):
                reading.problem(Kind.ANNOTATION, file, box, reading.records[image]["image_id"], item, boxes=1)
                continue
            reading.box(image, label, box, item=item, crowd=_is_crowd(annotation), area=_area_of(annotation))

    def write(self, records: dict[str, list[dict]], classes: list[str], folder: Path) -> dict[str, list[Source]]:
        """Write ``instances_<split>.json``; see :func:`to_coco`."""
        splits: dict[str, list[Source]] = {}
        for split, found in records.items():
            name = f"instances_{split}.json"
            (folder / name).write_bytes(msgspec.json.encode(to_coco(found, classes, relative_to=folder)))
            splits[split] = [{"images": ".", "annotations": name}]
        return splits


def to_coco(records: list[dict], classes: list[str], *, relative_to: Path) -> dict:
    """Convert Detectron2's dataset dicts to COCO's JSON; ids start at 1, boxes are rounded to 0.01 pixel.

    Args:
        records: with XYXY_ABS boxes; the "score" of a predicted box is kept.
        classes: K names; category ids are 1..K.
        relative_to: folder to which "file_name" is relative.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    for number, record in enumerate(records, start=1):
        name = os.path.relpath(record["file_name"], relative_to).replace(os.sep, "/")
        images.append({"id": number, "file_name": name, "width": record["width"], "height": record["height"]})
        for x in record["annotations"]:
            x1, y1, x2, y2 = x["bbox"]
            box = [round(float(v), 2) for v in (x1, y1, x2 - x1, y2 - y1)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": x["category_id"] + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": x["iscrowd"],
                    "segmentation": [],
                    **({"score": round(float(x["score"]), 4)} if "score" in x else {}),
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _raw_image_id(annotation: object) -> int | str | None:
    """Return the image id as the annotation has it, or None if it cannot be the key of a mapping."""
    image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
    return image_id if isinstance(image_id, (int, str)) else None


def _size_of(image: dict) -> tuple[int | None, int | None]:
    """Return the height and width of an image entry; (None, None) unless both are usable."""
    height, width = as_size(image.get("height")), as_size(image.get("width"))
    return (height, width) if height is not None and width is not None else (None, None)


def _is_crowd(annotation: dict) -> bool:
    """Return whether an annotation is a crowd region, or is to be ignored."""
    crowd, ignored = annotation.get("iscrowd", 0), annotation.get("ignore", 0)
    return (crowd != 0 and as_flag(crowd)) or (ignored != 0 and as_flag(ignored))


def _area_of(annotation: dict) -> float:
    """Return the area of the mask in pixels; NaN if there is no mask or no usable area."""
    if annotation.get("area") is None or not annotation.get("segmentation"):
        return math.nan
    return as_number(annotation["area"]) or math.nan


def _looks_like_coco(path: Path) -> bool:
    """Return whether a file that is not valid JSON contains the keys of a COCO JSON."""
    try:
        start = read_bytes(path)[: 1 << 20]
    except (FileNotFoundError, ValueError):
        return False
    return b'"images"' in start and any(key in start for key in (b'"file_name"', b'"annotations"', b'"categories"'))


def _is_detections(data: object) -> bool:
    """Return whether a JSON is a list of detections in COCO's result format."""
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and {"image_id", "score"} <= set(data[0])


def _reason_against(data: dict) -> str | None:
    """Return why a JSON with a list of images does not hold box annotations, or None if it does."""
    categories, annotations = data.get("categories"), data.get("annotations")
    if not isinstance(categories, list):
        return "looks like COCO, but has no list of categories (captions?)"
    if not any(as_name(entry.get("name")) for entry in categories if isinstance(entry, dict)):
        return "looks like COCO, but no category has a name"
    if "annotations" not in data:
        return "lists images, but no annotations"
    if not isinstance(annotations, list):
        return f"looks like COCO, but its annotations are {type(annotations).__name__}, and a list is expected"
    if annotations and any("neg_category_ids" in image for image in data["images"][:20] if isinstance(image, dict)):
        return (
            "is LVIS, whose annotations are not exhaustive: each image lists the classes that were annotated, which is "
            "not supported"
        )
    entries = (entry for entry in annotations if isinstance(entry, dict))
    if annotations and not any(entry.get("bbox") or entry.get("segmentation") for entry in entries):
        return "looks like COCO, but no annotation has a bbox or a segmentation"
    return None


def _names_in_order(data: dict) -> list[str]:
    """Return the names of the categories in the order of their ids.

    Roboflow's placeholder is left out: category 0, which is the parent of the others and has no box.
    """
    annotations = data.get("annotations")
    entries = annotations if isinstance(annotations, list) else []
    used = {as_id(entry.get("category_id")) for entry in entries if isinstance(entry, dict)}
    categories: list[tuple[int | str, str, dict[str, Any]]] = []
    for entry in data["categories"]:
        if not isinstance(entry, dict):
            continue
        category_id, name = as_id(entry.get("id")), as_name(entry.get("name"))
        if category_id is not None and name is not None:
            categories.append((category_id, name, entry))
    several = len(categories) > 1
    names: dict[str, None] = {}
    for category_id, name, entry in sorted(categories, key=lambda category: _order_of_id(category[0])):
        is_placeholder = category_id == 0 and entry.get("supercategory") == "none" and several
        if category_id in used or not is_placeholder:
            names[name] = None
    return list(names)


def _order_of_id(number: int | str) -> tuple[bool, int | str]:
    """Sort key of ids: numbers before texts."""
    return isinstance(number, str), number
