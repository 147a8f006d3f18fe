"""COCO JSON (https://cocodataset.org/#format-data), as COCO itself, CVAT, Label Studio, VIA, FiftyOne and Roboflow write it."""

import math
import os
from collections import Counter, defaultdict
from pathlib import Path

import msgspec

from retina_plugin.data.boxes import extent
from retina_plugin.data.files import Listing, split_of
from retina_plugin.data.formats.base import FORMAT_REGISTRY, AnnotationFormat, Found, Reading, Refused, Source
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_flag, as_id, as_name, as_number, as_size
from retina_plugin.text import read_bytes, read_json

PARTS = ("images", "annotations", "categories")


@FORMAT_REGISTRY.register("coco")
class CocoFormat(AnnotationFormat):
    """A JSON a split. A source has "annotations" (the file) and "images" (the folder from which file names count)."""

    name, title = "coco", "COCO JSON"

    def recognise(self, listing: Listing) -> Found:
        """Every JSON with images, annotations and categories; the folder of its images is the one that has most of them."""
        found, tables = Found(), []
        for file in listing.with_suffix(".json"):
            folder, name = os.path.split(file)
            split = split_of([folder, os.path.splitext(name)[0]])
            try:
                data = read_json(listing.path(file))
            except (FileNotFoundError, ValueError) as error:
                if _looks_like_coco(listing.path(file)):
                    found.refused.append(Refused(file, str(error), split))
                continue
            if isinstance(data, list) and data and isinstance(data[0], dict) and {"image_id", "score"} <= set(data[0]):
                found.unused[file] = "holds detections (image_id, score), not annotations"
                continue
            if (
                not isinstance(data, dict)
                or not isinstance(data.get("images"), list)
                or not {"annotations", "categories"} & set(data)
            ):
                continue
            if reason := _reason_against(data):
                found.unused[file] = reason
                continue
            if not data.get("annotations") and "annotations" not in data:
                found.unused[file] = "lists images, but no annotations"
                continue
            names = [
                image["file_name"]
                for image in data["images"]
                if isinstance(image, dict) and isinstance(image.get("file_name"), str)
            ]
            source: Source = {"images": folder_of_images(listing, names, folder, split), "annotations": file}
            found.splits.setdefault(split or "all", []).append(source)
            found.used.add(file)
            tables.append((split, data))
        order = {"train": 0, None: 1, "val": 2}
        for _, data in sorted(tables, key=lambda table: order.get(table[0], 3)):
            found.classes += [name for name in _names_in_order(data) if name not in found.classes]
        return found

    def read(self, source: Source, reading: Reading) -> None:
        """Read the file; categories are matched with the card by name, so that gaps and order of the ids do not matter.

        Raises:
            ValueError: the file is no COCO JSON, or none of its categories is a class of the card.
        """
        path = reading.path("annotations")
        reading.path("images", default=".")
        data = read_json(path)
        if not isinstance(data, dict) or not all(isinstance(data.get(part), list) for part in PARTS):
            lacking = [part for part in PARTS if not isinstance(data, dict) or not isinstance(data.get(part), list)]
            raise ValueError(
                f"{path} is not a COCO JSON with images, annotations and categories: it has no list of {' and '.join(lacking)}"
            )
        file = str(path)
        reading.files.add(file)
        labels = self._labels(data["categories"], file, reading)
        annotations, data["annotations"] = data["annotations"], []
        counts = Counter(
            entry.get("image_id") if isinstance(entry, dict) and isinstance(entry.get("image_id"), (int, str)) else None
            for entry in annotations
        )
        numbers = self._images(data["images"], counts, file, reading)
        del data
        self._annotations(annotations, numbers, labels, file, reading)

    @staticmethod
    def _labels(categories: list, file: str, reading: Reading) -> dict:
        """Category id -> label, or the name of a category that the card does not have."""
        labels: dict = {}
        for number, category in enumerate(categories):
            entry = category if isinstance(category, dict) else {}
            number_id, name = as_id(entry.get("id")), as_name(entry.get("name"))
            if number_id is None or name is None:
                reading.problem(
                    Kind.ANNOTATION, file, f"category number {number} must have an id and a name, got {shown(category)}"
                )
                continue
            label = reading._labels.get(name, name)
            if number_id in labels and labels[number_id] != label:
                reading.problem(
                    Kind.ANNOTATION, file, f"category id {number_id!r} is used twice; {name!r} is the second"
                )
                continue
            labels[number_id] = label
        known = [label for label in labels.values() if isinstance(label, int)]
        if labels and not known:
            raise ValueError(
                f"{file} has the categories {list(labels.values())[:20]}; none of the card's classes {reading.classes[:20]} is among them"
            )
        if len(set(known)) == len(known) and all(isinstance(number, int) for number in labels):
            reading.metadata["thing_dataset_id_to_contiguous_id"] = {
                number: label for number, label in labels.items() if isinstance(label, int)
            }
        return labels

    @staticmethod
    def _images(images: list, counts: Counter, file: str, reading: Reading) -> dict:
        """Image id -> number of the image in the reading, None for one that is left out."""
        numbers: dict = {}
        says_sizes = True
        for position, image in enumerate(images):
            if not isinstance(image, dict):
                reading.problem(
                    Kind.ANNOTATION, file, f"image number {position} must be a mapping, got {shown(image)}", images=1
                )
                continue
            image_id, name = as_id(image.get("id")), image.get("file_name")
            if image_id is None:
                reading.problem(
                    Kind.ANNOTATION,
                    file,
                    f"image number {position} must have a number or text as id, got {shown(image.get('id'))}",
                    shown(name),
                    images=1,
                )
                continue
            if name is None:
                name = image.get("path") or image.get("filename")
            lost = counts.get(image.get("id"), 0)
            if image_id in numbers:
                reading.problem(
                    Kind.ANNOTATION, file, f"image id is used twice; {shown(name)} is the second", image_id, images=1
                )
                continue
            size = as_size(image.get("height")), as_size(image.get("width"))
            says_sizes &= "height" in image or "width" in image
            before = len(reading.records)
            numbers[image_id] = reading.image(
                name, file=file, image_id=image_id, size=size if None not in size else (None, None), boxes=lost
            )
            if numbers[image_id] is not None and len(reading.records) == before:
                reading.problem(
                    Kind.MERGED,
                    file,
                    f"{shown(name)} is listed twice, as {reading.records[numbers[image_id]]['image_id']!r}, too",
                    image_id,
                    done="united",
                    images=1,
                )
        reading.metadata["says_sizes"] = says_sizes
        return numbers

    @staticmethod
    def _annotations(annotations: list, numbers: dict, labels: dict, file: str, reading: Reading) -> None:
        for position, annotation in enumerate(annotations):
            if not isinstance(annotation, dict):
                reading.problem(
                    Kind.ANNOTATION,
                    file,
                    f"annotation number {position} must be a mapping, got {shown(annotation)}",
                    boxes=1,
                )
                continue
            item = annotation.get("id", f"number {position}")
            image_id = annotation.get("image_id")
            if type(image_id) is not int:
                image_id = as_id(image_id)
            try:
                image = numbers[image_id]
            except KeyError:
                reading.problem(
                    Kind.LOST,
                    file,
                    "belongs to an image that is not listed"
                    if image_id is not None
                    else f"its image_id must be a number or text, got {shown(annotation.get('image_id'))}",
                    image_id,
                    item,
                    boxes=1,
                )
                continue
            if image is None:
                continue  # its image was reported, and took it along
            category = annotation.get("category_id")
            if type(category) is not int:
                category = as_id(category)
            label = labels.get(category)
            if label is None:
                reading.problem(
                    Kind.CLASSES,
                    file,
                    f"category id {shown(annotation.get('category_id'))} is not in the categories",
                    reading.records[image]["image_id"],
                    item,
                    boxes=1,
                )
                continue
            if type(label) is str:
                reading.label_of(label, file=file)
                continue
            box = _box(annotation)
            if isinstance(box, str):
                reading.problem(Kind.ANNOTATION, file, box, reading.records[image]["image_id"], item, boxes=1)
                continue
            crowd = annotation.get("iscrowd", 0)
            ignored = annotation.get("ignore", 0)
            area = annotation.get("area") if annotation.get("segmentation") else None
            is_crowd = (crowd != 0 and as_flag(crowd)) or (ignored != 0 and as_flag(ignored))
            reading.box(
                image,
                label,
                box,
                item=item,
                crowd=is_crowd,
                area=math.nan if area is None else as_number(area) or math.nan,
            )

    def write(self, records: dict[str, list[dict]], classes: list[str], folder: Path) -> dict[str, list[Source]]:
        """Write ``instances_<split>.json``; see :func:`to_coco`."""
        splits: dict[str, list[Source]] = {}
        for split, found in records.items():
            name = f"instances_{split}.json"
            (folder / name).write_bytes(msgspec.json.encode(to_coco(found, classes, relative_to=folder)))
            splits[split] = [{"images": ".", "annotations": name}]
        return splits


def to_coco(records: list[dict], classes: list[str], *, relative_to: Path) -> dict:
    """COCO's JSON of Detectron2's dataset dicts; ids count from 1, boxes are rounded to hundredths of a pixel.

    Args:
        records: with boxes XYXY_ABS.
        classes: K names; category ids are 1..K.
        relative_to: folder from which "file_name" counts.
    """
    images, annotations = [], []
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
                }
            )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, start=1)],
    }


def _box(annotation: dict) -> list[float] | str:
    """XYXY of an annotation, from its bbox or else from its segmentation; or what is wrong with it."""
    box = annotation.get("bbox")
    if type(box) is list and len(box) == 4:
        x, y, w, h = box
        if type(x) is type(y) is type(w) is type(h) is float:
            return [x, y, x + w, y + h]
        numbers = [as_number(value) for value in box]
        if None not in numbers:
            x, y, w, h = numbers
            return [x, y, x + w, y + h]
    if not box and annotation.get("segmentation"):
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, dict):
            return _box_of_mask(segmentation)
        around = extent(segmentation)
        return around if around is not None else f"segmentation must be polygons, got {shown(segmentation)}"
    if isinstance(box, dict) and {"x", "y", "width", "height"} <= set(box):
        return _box({"bbox": [box[key] for key in ("x", "y", "width", "height")]})
    return f"bbox must be four numbers [x, y, width, height], got {shown(box)}"


def _box_of_mask(mask: dict) -> list[float] | str:
    """XYXY around a run-length mask, COCO's (uncompressed or not)."""
    from pycocotools import mask as masks

    try:
        h, w = (as_size(side) for side in mask["size"])
        counts = mask["counts"]
        if h is None or w is None or h * w > 1 << 28:
            raise ValueError("size")
        if isinstance(counts, list):
            if sum(int(count) for count in counts) != h * w or min(counts) < 0:
                raise ValueError("counts")
            coded = masks.frPyObjects({"size": [h, w], "counts": [int(count) for count in counts]}, h, w)
        elif isinstance(counts, str) and _fits(counts, h * w):
            coded = {"size": [h, w], "counts": counts.encode("ascii")}
        else:
            raise ValueError("counts")
        x, y, bw, bh = (float(v) for v in masks.toBbox(coded))
    except (KeyError, TypeError, ValueError, OverflowError):
        return f"segmentation must be a run-length mask with size and counts, got {shown(mask)}"
    return [x, y, x + bw, y + bh]


def _fits(text: str, pixels: int) -> bool:
    """Whether compressed runs have just the pixels of the mask: the decoder in C does not look."""
    counts, position = [], 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            if position >= len(text) or shift > 60:
                return False
            code = ord(text[position]) - 48
            if not 0 <= code < 64:
                return False
            value |= (code & 0x1F) << shift
            more = bool(code & 0x20)
            position, shift = position + 1, shift + 5
            if not more and code & 0x10:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return all(count >= 0 for count in counts) and sum(counts) == pixels


def _entries(data: dict, part: str) -> list:
    return data[part] if isinstance(data.get(part), list) else []


def _looks_like_coco(path: Path) -> bool:
    """Whether a file that is no JSON was to be COCO: by the names of its parts."""
    try:
        start = read_bytes(path)[: 1 << 20]
    except (FileNotFoundError, ValueError):
        return False
    return b'"images"' in start and (b'"file_name"' in start or b'"annotations"' in start or b'"categories"' in start)


def _reason_against(data: dict) -> str | None:
    """Why a JSON with a list of images is no annotations of boxes, or None."""
    categories, annotations = data.get("categories"), data.get("annotations")
    if not isinstance(categories, list):
        return "looks like COCO, but has no list of categories (captions?)"
    if not any(as_name(entry.get("name")) for entry in categories if isinstance(entry, dict)):
        return "looks like COCO, but no category has a name"
    if "annotations" in data and not isinstance(annotations, list):
        return f"looks like COCO, but its annotations are {type(annotations).__name__}, where a list is expected"
    if annotations and any("neg_category_ids" in image for image in data["images"][:20] if isinstance(image, dict)):
        return "is LVIS, of which the annotations are not complete: an image says which classes were looked for; that is not read"
    if annotations and not any(
        isinstance(entry, dict) and (entry.get("bbox") or entry.get("segmentation")) for entry in annotations
    ):
        return "looks like COCO, but no annotation has a bbox or a segmentation"
    return None


def _names_in_order(data: dict) -> list[str]:
    """Names of the categories by their ids; without Roboflow's placeholder, category 0 of which no box is."""
    entries = [
        (as_id(entry.get("id")), as_name(entry.get("name")), entry)
        for entry in data["categories"]
        if isinstance(entry, dict)
    ]
    entries = [entry for entry in entries if entry[0] is not None and entry[1] is not None]
    used = {
        as_id(annotation.get("category_id"))
        for annotation in _entries(data, "annotations")
        if isinstance(annotation, dict)
    }
    entries = [
        (i, name, e)
        for i, name, e in entries
        if i in used or not (i == 0 and e.get("supercategory") == "none" and len(entries) > 1)
    ]
    entries.sort(key=lambda entry: (isinstance(entry[0], str), entry[0]))
    return list(dict.fromkeys(name for _, name, _ in entries))


def folder_of_images(listing: Listing, names: list[str], folder: str, split: str | None) -> str:
    """The folder from which most of the file names count: of several one that is named as the split, then that of the file.

    Where two fit equally well it is neither: each image is looked up by its name, and one that is in both is named and left out.

    Args:
        listing: of the data set.
        names: that the annotations have.
        folder: of the annotations.
        split: of the annotations.
    """
    counts: dict[str, int] = defaultdict(int)
    folders = set(listing.folders)
    for name in (name.replace("\\", "/") for name in names[:2000]):
        for there in listing.named(os.path.basename(name)):
            base = there[: -len(name) - 1] if there.endswith(f"/{name}") else ("" if there == name else None)
            if base is not None and base in folders:
                counts[base] += 1
    allowed = {base: n for base, n in counts.items() if not (split and split_of([base]) and split_of([base]) != split)}
    if not allowed:
        return folder or "."
    fit = {base: (allowed[base], split is not None and split_of([base]) == split, base == folder) for base in allowed}
    best = [base for base in fit if fit[base] == max(fit.values())]
    return (best[0] if len(best) == 1 else folder) or "."
