"""Pascal VOC: one XML a picture, lists of names in ImageSets (Everingham et al. 2010)."""

from pathlib import Path
from xml.etree import ElementTree

from detectron2.structures import BoxMode

from retina_plugin.data.formats.base import FORMAT_REGISTRY, ReadResult, split_path
from retina_plugin.data.problems import Problem, checked_box


@FORMAT_REGISTRY.register("voc")
def read_voc(root: Path, split: dict, classes: list[str]) -> ReadResult:
    """Read the XML files in ``split["annotations"]``, those that the list ``split["image_set"]`` names or, without one, all.

    Images lie in ``split["images"]``. ``split["box_origin"]`` is 0 (default: xmin counts from 0, as
    annotation tools write it) or 1 (the original VOC: pixels count from 1 and xmax is inside the
    box, so that xmin and ymin are lowered by one). Objects marked difficult are kept as crowd:
    detectron2's mapper leaves them out of the targets.
    """
    annotations_dir = split_path(root, split, "annotations")
    images_dir = split_path(root, split, "images")
    if "image_set" in split:
        names = [line.split()[0] for line in split_path(root, split, "image_set").read_text().splitlines() if line.strip()]
    else:
        names = sorted(path.stem for path in annotations_dir.glob("*.xml"))
    origin = split.get("box_origin", 0)
    if origin not in (0, 1):
        raise ValueError(f"box_origin must be 0 or 1, got {origin!r}")
    result = ReadResult()
    seen: set[str] = set()
    for name in names:
        file = annotations_dir / f"{name}.xml"
        if name in seen:
            result.problems.append(Problem(str(root / split["image_set"]), "is listed twice", name))
            continue
        seen.add(name)
        if not file.is_file():
            result.problems.append(Problem(str(file), "does not exist", name))
            continue
        try:
            tree = ElementTree.parse(file).getroot()
            record = _image_record(tree, name, images_dir)
        except (ElementTree.ParseError, ValueError, TypeError) as error:
            result.problems.append(Problem(str(file), str(error), name))
            continue
        for number, node in enumerate(tree.iter("object"), start=1):
            _add_object(record, node, number, classes, origin, str(file), result.problems)
        result.records.append(record)
    return result


def _image_record(tree: ElementTree.Element, name: str, images_dir: Path) -> dict:
    """The record of one picture.

    Raises:
        ValueError: it has no size, or its image is missing.
    """
    width, height = (tree.findtext(f"size/{key}") for key in ("width", "height"))
    if not (width or "").strip().isdigit() or not (height or "").strip().isdigit() or int(width) == 0 or int(height) == 0:
        raise ValueError(f"size must have a positive width and height, got {width} x {height}")
    path = images_dir / (tree.findtext("filename") or f"{name}.jpg")
    if not path.is_file():
        by_name = sorted(images_dir.glob(f"{name}.*"))
        if not by_name:
            raise ValueError(f"image {path} does not exist")
        path = by_name[0]
    return {"file_name": str(path), "height": int(height), "width": int(width), "image_id": name, "annotations": []}


def _add_object(
    record: dict, node: ElementTree.Element, number: int, classes: list[str], origin: int, file: str, problems: list[Problem]
) -> None:
    """Append the object to the record of its picture, if its class and box can be used."""
    name, image = (node.findtext("name") or "").strip(), record["image_id"]
    if name not in classes:
        problems.append(Problem(file, f"class {name!r} is not one of the card's: {', '.join(classes)}", image, number))
        return
    texts = [node.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        box = [float(text) for text in texts]
    except (TypeError, ValueError):
        problems.append(Problem(file, f"bndbox must have four numbers, got {texts}", image, number))
        return
    box = [box[0] - origin, box[1] - origin, box[2], box[3]]
    usable, problem = checked_box(box, width=record["width"], height=record["height"], file=file, image=image, annotation=number)
    if problem:
        problems.append(problem)
    if usable:
        record["annotations"].append({
            "bbox": usable, "bbox_mode": BoxMode.XYXY_ABS, "category_id": classes.index(name),
            "iscrowd": int((node.findtext("difficult") or "0").strip() == "1"),
        })
