"""YOLO: a text file an image, a line a box, in fractions of the image (https://docs.ultralytics.com/datasets/detect/)."""

from pathlib import Path

from detectron2.structures import BoxMode

from retina_plugin.data.formats.base import FORMAT_REGISTRY, ReadResult
from retina_plugin.data.image_files import list_images, size_of
from retina_plugin.data.problems import Problem, checked_box

BEYOND = 1.01
"""Fractions up to this are rounding; above it a file holds pixels."""


@FORMAT_REGISTRY.register("yolo")
def read_yolo(root: Path, split: dict, classes: list[str]) -> ReadResult:
    """Read the images of ``split["images"]``: a folder, a text file that lists images, or a list of these.

    The labels of an image lie in ``split["labels"]`` (a folder laid out like that of the images), or, without it, where YOLO
    looks: the last folder "images" of the path becomes "labels", else beside the image. An image without a
    file has no objects. A line is ``class x_centre y_centre width height``, or a class and a polygon,
    of which the box is taken. Sizes are read from the images. ``split["only_labelled"]``: images without a file are another split's.

    Raises:
        FileNotFoundError: a folder or list does not exist.
        ValueError: the split names no images.
    """
    if "images" not in split:
        raise ValueError(f"the split has no 'images'; it says {split}")
    result = ReadResult()
    for source in [split["images"]] if isinstance(split["images"], str) else split["images"]:
        path = root / source
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        for image in list_images(path) if path.is_dir() else _listed(path):
            labels = label_file(image, path if path.is_dir() else image.parent, root / split["labels"] if "labels" in split else None)
            if labels.is_file() or not split.get("only_labelled"):
                _read_image(image, labels, root, classes, result)
    return result


def _listed(file: Path) -> list[Path]:
    """Images that a text file names, relative to its folder."""
    return [file.parent / line.strip() for line in file.read_text().splitlines() if line.strip()]


def label_file(image: Path, images: Path, labels: Path | None) -> Path:
    """Where the labels of an image lie: below ``labels`` as the image lies below ``images``, or by YOLO's rule.

    Example:
        >>> label_file(Path("d/images/train/7.jpg"), Path("d/images/train"), None).as_posix()
        'd/labels/train/7.txt'
    """
    if labels is not None:
        return labels / image.relative_to(images).with_suffix(".txt")
    parts = list(image.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _read_image(image: Path, labels: Path, root: Path, classes: list[str], result: ReadResult) -> None:
    """Append the record of one image."""
    name = image.relative_to(root).as_posix() if image.is_relative_to(root) else image.as_posix()
    try:
        height, width = size_of(image)
    except OSError as error:
        result.problems.append(Problem(str(image), f"cannot be read as an image: {error}", name))
        return
    record = {"file_name": str(image), "height": height, "width": width, "image_id": name, "annotations": []}
    result.records.append(record)
    if not labels.is_file():
        return
    for number, line in enumerate(labels.read_text(errors="replace").splitlines(), start=1):
        if words := line.split():
            _add_line(record, words, number, str(labels), classes, result.problems)


def _add_line(record: dict, words: list[str], number: int, file: str, classes: list[str], problems: list[Problem]) -> None:
    """Append the box of one line, if it can be used."""
    image = record["image_id"]
    try:
        label, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        problems.append(Problem(file, f"line must be numbers (class x_centre y_centre width height), got {' '.join(words)!r}", image, number))
        return
    if label != int(label) or not 0 <= label < len(classes):
        problems.append(Problem(file, f"class {words[0]} is not one of 0..{len(classes) - 1}", image, number))
        return
    if len(values) < 4 or (len(values) > 4 and len(values) % 2):
        problems.append(Problem(file, f"line must have 4 numbers after the class, or a polygon's pairs, got {len(values)}", image, number))
        return
    if max(values) > BEYOND:
        problems.append(Problem(file, f"values {' '.join(words[1:5])} are pixels, where fractions of width and height (0..1) are expected", image, number))
        return
    width, height = record["width"], record["height"]
    if len(values) == 4:
        x, y, w, h = values
        box = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
    else:
        xs, ys = values[0::2], values[1::2]
        box = [min(xs) * width, min(ys) * height, max(xs) * width, max(ys) * height]
    usable, problem = checked_box(box, width=width, height=height, file=file, image=image, annotation=number)
    if problem:
        problems.append(problem)
    if usable:
        record["annotations"].append({"bbox": usable, "bbox_mode": BoxMode.XYXY_ABS, "category_id": int(label), "iscrowd": 0})
