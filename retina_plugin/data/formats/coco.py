"""COCO JSON (https://cocodataset.org/#format-data)."""

import json
from collections import Counter, defaultdict
from pathlib import Path

from detectron2.structures import BoxMode

from retina_plugin.data.formats.base import FORMAT_REGISTRY, ReadResult, split_path
from retina_plugin.data.problems import Problem, checked_box


@FORMAT_REGISTRY.register("coco")
def read_coco(root: Path, split: dict, classes: list[str]) -> ReadResult:
    """Read ``split["annotations"]`` (JSON); images lie in ``split["images"]``.

    Categories are matched with the card by name, so that gaps and order of the ids do not matter.

    Raises:
        ValueError: the file is no COCO JSON, or its categories are not the classes of the card.
    """
    path = split_path(root, split, "annotations")
    images_dir = split_path(root, split, "images")
    file = str(path)
    try:
        data = json.loads(path.read_text())
        images, annotations, categories = data["images"], data["annotations"], data["categories"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not a COCO JSON with images, annotations and categories: {error!r}") from error

    result = ReadResult()
    by_name = {category["name"]: category["id"] for category in categories}
    missing = [name for name in classes if name not in by_name]
    extra = [name for name in by_name if name not in classes]
    if missing:
        raise ValueError(f"{file} has the categories {list(by_name)}; the card's classes {missing} are not among them")
    contiguous = {by_name[name]: label for label, name in enumerate(classes)}
    result.metadata = {"json_file": file, "image_root": str(images_dir), "thing_dataset_id_to_contiguous_id": contiguous}
    extra_ids = {by_name[name]: name for name in extra}

    records: dict = {}
    for number, image in enumerate(images):
        if record := _image_record(image, number, images_dir, file, records, result.problems):
            records[image["id"]] = record
    listed = {image.get("id") for image in images}
    seen: Counter = Counter()
    per_image = defaultdict(list)
    for number, annotation in enumerate(annotations):
        image_id, name = annotation.get("image_id"), annotation.get("id", f"number {number}")
        seen[name] += 1
        if image_id not in records:
            if image_id not in listed:  # otherwise its image was reported, and takes it along
                result.problems.append(Problem(file, "belongs to an image that is not listed", image_id, name))
        elif seen[name] > 1:
            result.problems.append(Problem(file, "annotation id is used twice", image_id, name))
        elif annotation.get("category_id") not in contiguous:
            category = annotation.get("category_id")
            what = f"category {extra_ids[category]!r} is not a class of the card" if category in extra_ids else f"category id {category!r} is not in the categories"
            result.problems.append(Problem(file, what, image_id, name))
        else:
            per_image[image_id].append(annotation)
    for image_id, record in records.items():
        for annotation in per_image[image_id]:
            _add_annotation(record, annotation, contiguous, file, result.problems)
    result.records = list(records.values())
    return result


def _image_record(image: dict, number: int, images_dir: Path, file: str, known: dict, problems: list[Problem]) -> dict | None:
    """The record of one entry of "images", or None and a problem."""
    lacking = [key for key in ("id", "file_name", "width", "height") if key not in image]
    if lacking:
        problems.append(Problem(file, f"image lacks {', '.join(lacking)}", image.get("id", f"number {number}")))
        return None
    path = images_dir / image["file_name"]
    if image["id"] in known:
        problems.append(Problem(file, f"image id is used twice; {image['file_name']} is the second", image["id"]))
    elif not path.is_file():
        problems.append(Problem(file, f"{path} does not exist", image["id"]))
    else:
        return {"file_name": str(path), "height": image["height"], "width": image["width"], "image_id": image["id"], "annotations": []}
    return None


def _add_annotation(record: dict, annotation: dict, contiguous: dict, file: str, problems: list[Problem]) -> None:
    """Append one entry of "annotations" to the record of its image, if its box can be used."""
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(v, (int, float)) for v in box):
        problems.append(Problem(file, f"bbox must be four numbers [x, y, width, height], got {box!r}", record["image_id"], annotation.get("id")))
        return
    x, y, w, h = map(float, box)
    usable, problem = checked_box(
        [x, y, x + w, y + h], width=record["width"], height=record["height"], file=file, image=record["image_id"], annotation=annotation.get("id")
    )
    if problem:
        problems.append(problem)
    if usable:
        record["annotations"].append({
            "bbox": usable, "bbox_mode": BoxMode.XYXY_ABS, "category_id": contiguous[annotation["category_id"]],
            "iscrowd": int(bool(annotation.get("iscrowd") or annotation.get("ignore"))),
        })
