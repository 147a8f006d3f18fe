"""YOLO: one text file per image, one box per line, in fractions of the image.

Source: https://docs.ultralytics.com/datasets/detect/
"""

import math
import os
from pathlib import Path, PurePosixPath

import yaml

from retina_plugin.data.files import NO_IMAGES, Listing, alike
from retina_plugin.data.formats.base import FORMAT_REGISTRY, AnnotationFormat, Found, Reading, Source, with_unique_stems
from retina_plugin.data.formats.yolo_layout import NAME_FILES, layout_of
from retina_plugin.data.problems import Kind, shown
from retina_plugin.data.values import as_number
from retina_plugin.text import read_text

BEYOND = 1.01
"""Values up to this are fractions with rounding errors; a line with a larger value holds pixels."""


@FORMAT_REGISTRY.register("yolo")
class YoloFormat(AnnotationFormat):
    """One text file per image.

    A source has "images" (a folder, a text file that lists images, or a list of these), and may have:

    "labels": the folder of the label files, with the same layout as that of the images. By default the label file is
    where YOLO looks: the last folder "images" of the image's path is replaced by "labels", or else next to the image.
    "only_labelled": skip images without a label file, because they belong to another split; by default they are images
    without objects.
    "ids": class ids of the label files in the order of the card's classes, if they are not 0, 1, 2, ...
    "keypoints": how many numbers follow each box, for poses (``kpt_shape``).
    """

    name, title = "yolo", "YOLO txt"

    def recognise(self, listing: Listing) -> Found:
        """Find the splits; see :func:`retina_plugin.data.formats.yolo_layout.layout_of`."""
        return layout_of(listing)

    def read(self, source: Source, reading: Reading) -> None:
        """Read the labels of all images of the source.

        Raises:
            FileNotFoundError: a folder or list does not exist.
            ValueError: the split names no images, or an option has a wrong value.
        """
        if "images" not in source:
            raise ValueError(f"the split has no 'images'; it has {source}")
        reading.fractions = True
        labels_of_ids, keypoints = _labels_of_ids(source, reading.classes), _keypoints_of(source)
        places = [source["images"]] if isinstance(source["images"], str) else source["images"]
        if not isinstance(places, list):
            raise ValueError(f"images must be a path or a list of paths, got {places!r}")
        used: set[str] = set()
        for place in places:
            images, base = _images_of(place, reading)
            labels_dir = reading.path("labels") if "labels" in source else None
            for image in images:
                labels = label_file(image, base, labels_dir)
                if labels is None and source.get("only_labelled"):
                    continue
                number = reading.add_image(str(image), file=str(labels or image))
                if labels is not None:
                    used.add(alike(str(labels)))
                    self._read_labels(labels, number, labels_of_ids, keypoints, reading)
            if (reading.root / place).is_dir():
                _report_orphans(images, base, labels_dir, used, reading)

    def _read_labels(
        self, file: Path, image: int, labels_of_ids: dict[int, int], keypoints: int, reading: Reading
    ) -> None:
        """Read the boxes in the label file of an image."""
        image_id = reading.records[image]["image_id"]
        try:
            text, _ = read_text(file)
        except (FileNotFoundError, ValueError) as error:
            reading.problem(Kind.FILE, file, str(error), image_id)
            return
        reading.files.add(str(file))
        for number, line in enumerate(text.splitlines(), start=1):
            words = line.split()
            if not words:
                continue
            label, box = label_and_box(words, labels_of_ids, keypoints=keypoints)
            if isinstance(box, str):
                reading.problem(Kind.ANNOTATION, file, box, image_id, number, boxes=1)
            else:
                reading.box(image, label, box, item=number)

    def write(self, records: dict[str, list[dict]], classes: list[str], folder: Path) -> dict[str, list[Source]]:
        """Write labels/<split>/*.txt, data.yaml and images/<split>/*, which are links to the images.

        The images are copied if the file system has no links. Crowd regions, which YOLO does not have, are left out.
        """
        splits: dict[str, list[Source]] = {}
        for split, found in records.items():
            names = with_unique_stems(found)
            (folder / "labels" / split).mkdir(parents=True)
            (folder / "images" / split).mkdir(parents=True)
            for record in found:
                image, stem = Path(record["file_name"]), names[id(record)]
                link_or_copy(image, folder / "images" / split / f"{stem}{image.suffix}")
                objects = [x for x in record["annotations"] if not x["iscrowd"]]
                lines = [_line_of(x, record["width"], record["height"]) for x in objects]
                (folder / "labels" / split / f"{stem}.txt").write_text("".join(lines), encoding="utf-8")
            splits[split] = [{"images": f"images/{split}"}]
        described = {"path": ".", **{split: f"images/{split}" for split in records}, "names": dict(enumerate(classes))}
        text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
        (folder / "data.yaml").write_text(text, encoding="utf-8")
        return splits


def _labels_of_ids(source: Source, classes: list[str]) -> dict[int, int]:
    """Return the label of each class id in the label files.

    Raises:
        ValueError: "ids" is not a list of whole numbers.
    """
    ids = source.get("ids") or list(range(len(classes)))
    if not isinstance(ids, list) or not all(type(number) is int for number in ids):
        raise ValueError(f"ids must be a list of whole numbers, one per class, got {ids!r}")
    return {number: label for label, number in enumerate(ids)}


def _keypoints_of(source: Source) -> int:
    """Return how many numbers follow each box.

    Raises:
        ValueError: "keypoints" is not a whole number of at least 0.
    """
    keypoints = source.get("keypoints") or 0
    if type(keypoints) is not int or keypoints < 0:
        raise ValueError(f"keypoints must be a whole number of at least 0, got {keypoints!r}")
    return keypoints


def label_and_box(
    words: list[str], labels_of_ids: dict[int, int], *, keypoints: int = 0
) -> tuple[int, list[float] | str]:
    """Return the label and the box of one line.

    Args:
        words: of the line: class, then x_centre, y_centre, width and height, or x, y of each corner of a polygon.
        labels_of_ids: class id to label.
        keypoints: how many numbers follow each box.

    Returns:
        The label, and the box, XYXY in fractions of the image, or what is wrong with the line; the label is then 0.

    Example:
        >>> label_and_box("0 0.5 0.5 0.25 0.5".split(), {0: 0}), label_and_box("0 0 0 1 0 1 .5".split(), {0: 0})
        ((0, [0.375, 0.25, 0.625, 0.75]), (0, [0.0, 0.0, 1.0, 0.5]))
    """
    line = " ".join(words[:6]) + (" ..." if len(words) > 6 else "")
    numbers = [number for word in words if (number := as_number(word)) is not None]
    if len(numbers) < len(words):
        return 0, f"line must be numbers (class x_centre y_centre width height), got {shown(line)!r}"
    if not all(math.isfinite(number) for number in numbers):
        return 0, f"line has numbers that are not finite: {shown(line)!r}"
    class_id, *values = numbers
    label = labels_of_ids.get(int(class_id)) if class_id.is_integer() else None
    if label is None:
        return 0, f"class {words[0]} is not one of {_listed(sorted(labels_of_ids))}"
    is_box = len(values) in (4, 5) or (keypoints > 0 and len(values) == 4 + keypoints)
    is_polygon = len(values) >= 6 and len(values) % 2 == 0 and not keypoints
    if not is_box and not is_polygon:
        return 0, f"line must have 4 numbers after the class, or the x y pairs of a polygon, got {len(values)}"
    if is_box:
        values = values[:4]  # a fifth is the confidence
    if max(values) > BEYOND:
        first = " ".join(words[1:5]) + ("" if is_box else " ...")
        return 0, f"values {first} are pixels, but fractions of width and height (0..1) are expected"
    if is_box:
        x, y, w, h = values
        return label, [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    xs, ys = values[0::2], values[1::2]
    return label, [min(xs), min(ys), max(xs), max(ys)]


def _listed(ids: list[int]) -> str:
    """Return class ids for a message, as a range if they are 0, 1, 2, ..."""
    return f"0..{len(ids) - 1}" if ids == list(range(len(ids))) else ", ".join(map(str, ids))


def _folder_of_labels(images: Path, names: tuple[str, ...] = ("images",)) -> Path | None:
    """Return a folder with the last of its parts that is in ``names`` replaced by "labels"; None if there is none."""
    parts = images.parts
    places = [i for i, part in enumerate(parts) if part.lower() in names]
    return Path(*parts[: places[-1]], "labels", *parts[places[-1] + 1 :]) if places else None


def label_file(image: Path, images: Path, labels: Path | None) -> Path | None:
    """Return the label file of an image, or None if there is none.

    Args:
        image: path of the image.
        images: folder of the images.
        labels: folder of the labels, with the same layout as ``images``; None: follow YOLO's rule.
    """
    candidates: list[Path] = []
    if labels is not None:
        if image.is_relative_to(images):
            candidates.append(labels / image.relative_to(images).with_suffix(".txt"))
        candidates.append(labels / f"{image.stem}.txt")
    else:
        folder = _folder_of_labels(image.parent, ("images", "jpegimages"))
        if folder is not None:
            candidates.append((folder / image.name).with_suffix(".txt"))
        candidates += [image.with_suffix(".txt"), image.parent / "labels" / f"{image.stem}.txt"]
    for candidate in candidates:
        if candidate.is_file() and candidate.name.lower() not in NAME_FILES:
            return candidate
        upper = candidate.with_suffix(".TXT")
        if upper.is_file():
            return upper
    return None


def _images_of(place: object, reading: Reading) -> tuple[list[Path], Path]:
    """Return the images in a folder or in the list of a text file, and the folder to which they are relative.

    Raises:
        ValueError: the place is not a path.
        FileNotFoundError: it does not exist.
    """
    if not isinstance(place, str):
        raise ValueError(f"images must be a path, got {place!r}")
    path = Path(os.path.abspath(reading.root / place))
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        listing = Listing(path)
        for special in listing.special:
            if PurePosixPath(special).suffix.lower() not in NO_IMAGES:
                what = "is not a regular file, but a pipe, a device or a broken link"
                reading.problem(Kind.IMAGE, path / special, what, special, images=1)
        return [path / image for image in listing.images], path
    found: dict[Path, None] = {}
    text, _ = read_text(path)
    reading.files.add(str(path))
    for line in filter(None, (line.strip() for line in text.splitlines())):
        try:
            image = Path(reading.finder.find(line, near=path.parent)[0])
        except LookupError as error:
            reading.problem(Kind.MISSING, path, str(error), shown(line), images=1)
            continue
        if image in found:
            reading.problem(Kind.MERGED, path, "is listed twice", shown(line), done="used once")
        found[image] = None
    return list(found), path.parent


def _report_orphans(images: list[Path], base: Path, labels_dir: Path | None, used: set[str], reading: Reading) -> None:
    """Report the label files without an image.

    Args:
        images: images that were read.
        base: folder of the images.
        labels_dir: folder of the labels, if the source names one.
        used: label files that were read, in the form of :func:`alike`.
        reading: receives the problems.
    """
    if reading.source.get("only_labelled") or not base.is_dir():
        return
    separate = labels_dir or _folder_of_labels(base)  # a folder with nothing but labels
    listed = {image.parent for image in images}
    everything: Listing | None = None
    for folder in [separate] if separate else [base, base / "labels"]:
        if not folder.is_dir():
            continue
        for file in Listing(folder).with_suffix(".txt"):
            path = folder / file
            if alike(str(path)) in used or path.name.lower() in NAME_FILES:
                continue
            if not separate and path.parent not in listed and path.parent.name != "labels":
                continue
            everything = everything or Listing(reading.root)
            if everything.with_stem(path.stem):
                continue  # its image is in another split, or next to it
            if (lines := _box_lines(path)) is not None:
                reading.problem(Kind.LOST, path, "has no image", boxes=lines)


def _box_lines(path: Path) -> int | None:
    """Return the number of lines in a label file; None if the file is not a label file."""
    try:
        lines = [line.split() for line in read_text(path)[0].splitlines() if line.strip()]
    except (FileNotFoundError, ValueError):
        return None
    return len(lines) if all(len(words) >= 5 and as_number(words[1]) is not None for words in lines) else None


def _line_of(annotation: dict, width: int, height: int) -> str:
    """Return the line of a label file for a box."""
    x1, y1, x2, y2 = annotation["bbox"]
    values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{annotation['category_id']} {' '.join(f'{v:.8g}' for v in values)}\n"


def link_or_copy(image: Path, target: Path) -> None:
    """Create a link to an image, or a copy if the file system has no links."""
    try:
        target.symlink_to(image.resolve())
    except OSError:
        import shutil

        shutil.copyfile(image, target)
