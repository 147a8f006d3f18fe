"""YOLO: a text file an image, a line a box, in fractions of the image (https://docs.ultralytics.com/datasets/detect/)."""

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
"""Fractions up to this are rounding; above it a file holds pixels."""


@FORMAT_REGISTRY.register("yolo")
class YoloFormat(AnnotationFormat):
    """Text files. A source has "images" (a folder, a text file that lists images, or a list of these), and may have:

    "labels": the folder of the labels, laid out like that of the images; without it an image's labels are where YOLO looks: the last
    folder "images" of its path becomes "labels", else beside the image.
    "only_labelled": images without a label file are another split's, and not taken as empty.
    "ids": the class ids of the files in the order of the card's classes, where they are not 0, 1, 2, ...
    "keypoints": numbers that follow a box, for poses (``kpt_shape``).
    """

    name, title = "yolo", "YOLO txt"

    def recognise(self, listing: Listing) -> Found:
        """See :func:`retina_plugin.data.formats.yolo_layout.layout_of`."""
        return layout_of(listing)

    def read(self, source: Source, reading: Reading) -> None:
        """Read the labels of all images of the source.

        Raises:
            FileNotFoundError: a folder or list does not exist.
            ValueError: the split names no images.
        """
        if "images" not in source:
            raise ValueError(f"the split has no 'images'; it says {source}")
        reading.fractions = True
        ids = source.get("ids") or list(range(len(reading.classes)))
        labels_of_ids = {number: label for label, number in enumerate(ids)}
        places = [source["images"]] if isinstance(source["images"], str) else source["images"]
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
                    self._read_labels(labels, number, labels_of_ids, reading)
            if (reading.root / place).is_dir():
                _name_lost(images, base, labels_dir, used, reading)

    def _read_labels(self, file: Path, image: int, labels_of_ids: dict[int, int], reading: Reading) -> None:
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
            label, box = label_and_box(words, labels_of_ids, keypoints=reading.source.get("keypoints") or 0)
            if isinstance(box, str):
                reading.problem(Kind.ANNOTATION, file, box, image_id, number, boxes=1)
            else:
                reading.box(image, label, box, item=number)

    def write(self, records: dict[str, list[dict]], classes: list[str], folder: Path) -> dict[str, list[Source]]:
        """Write labels/<split>/*.txt, images/<split>/* as links to the images (copies where links cannot be made) and data.yaml."""
        splits: dict[str, list[Source]] = {}
        for split, found in records.items():
            names = with_unique_stems(found)
            (folder / "labels" / split).mkdir(parents=True)
            (folder / "images" / split).mkdir(parents=True)
            for record in found:
                link_or_copy(
                    Path(record["file_name"]),
                    folder / "images" / split / f"{names[id(record)]}{Path(record['file_name']).suffix}",
                )
                lines = [
                    _line_of(x, record["width"], record["height"]) for x in record["annotations"] if not x["iscrowd"]
                ]
                (folder / "labels" / split / f"{names[id(record)]}.txt").write_text("".join(lines), encoding="utf-8")
            splits[split] = [{"images": f"images/{split}"}]
        described = {"path": ".", **{split: f"images/{split}" for split in records}, "names": dict(enumerate(classes))}
        (folder / "data.yaml").write_text(
            yaml.safe_dump(described, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        return splits


def label_and_box(
    words: list[str], labels_of_ids: dict[int, int], *, keypoints: int = 0
) -> tuple[int, list[float] | str]:
    """The label and the box XYXY in fractions of one line, or what is wrong with it.

    Example:
        >>> label_and_box("0 0.5 0.5 0.25 0.5".split(), {0: 0}), label_and_box("0 0 0 1 0 1 .5".split(), {0: 0})
        ((0, [0.375, 0.25, 0.625, 0.75]), (0, [0.0, 0.0, 1.0, 0.5]))
    """
    said = " ".join(words[:6]) + (" ..." if len(words) > 6 else "")
    numbers = [as_number(word) for word in words]
    if None in numbers:
        return 0, f"line must be numbers (class x_centre y_centre width height), got {shown(said)!r}"
    if not all(math.isfinite(number) for number in numbers):
        return 0, f"line has numbers that are not finite: {shown(said)!r}"
    label, values = labels_of_ids.get(numbers[0]), numbers[1:]
    if label is None:
        ids = sorted(labels_of_ids)
        return (
            0,
            f"class {words[0]} is not one of {f'0..{len(ids) - 1}' if ids == list(range(len(ids))) else ', '.join(map(str, ids))}",
        )
    if len(values) < 4:
        return 0, f"line must have 4 numbers after the class, or a polygon's pairs, got {len(values)}"
    if len(values) in (4, 5) or (keypoints and len(values) == 4 + keypoints):
        values = values[:4]  # a fifth is a confidence
        if max(values) > BEYOND:
            return (
                0,
                f"values {' '.join(words[1:5])} are pixels, where fractions of width and height (0..1) are expected",
            )
        x, y, w, h = values
        return label, [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    if len(values) % 2 or keypoints:
        return 0, f"line must have 4 numbers after the class, or a polygon's pairs, got {len(values)}"
    if max(values) > BEYOND:
        return (
            0,
            f"values {' '.join(words[1:5])} ... are pixels, where fractions of width and height (0..1) are expected",
        )
    xs, ys = values[0::2], values[1::2]
    return label, [min(xs), min(ys), max(xs), max(ys)]


def label_file(image: Path, images: Path, labels: Path | None) -> Path | None:
    """Where the labels of an image are: below ``labels`` as the image lies below ``images``, or by YOLO's rule; None: there are none."""
    if labels is not None:
        candidates = [labels / image.relative_to(images).with_suffix(".txt")] if image.is_relative_to(images) else []
        candidates.append(labels / f"{image.stem}.txt")
    else:
        parts = list(image.parts)
        places = [i for i, part in enumerate(parts[:-1]) if part.lower() in ("images", "jpegimages")]
        candidates = (
            [Path(*parts[: places[-1]], "labels", *parts[places[-1] + 1 :]).with_suffix(".txt")] if places else []
        )
        candidates += [image.with_suffix(".txt"), image.parent / "labels" / f"{image.stem}.txt"]
    for candidate in candidates:
        if candidate.is_file() and candidate.name.lower() not in NAME_FILES:
            return candidate
        upper = candidate.with_suffix(".TXT")
        if upper.is_file():
            return upper
    return None


def _images_of(place: object, reading: Reading) -> tuple[list[Path], Path]:
    """The images of a folder, or those that a text file lists, and the folder from which they count."""
    if not isinstance(place, str):
        raise ValueError(f"images must be a path, got {place!r}")
    path = Path(os.path.abspath(reading.root / place))
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        listing = Listing(path)
        for odd in listing.special:
            if PurePosixPath(odd).suffix.lower() not in NO_IMAGES:
                reading.problem(
                    Kind.IMAGE,
                    path / odd,
                    "is no regular file: a pipe, a device or a link that leads nowhere",
                    odd,
                    images=1,
                )
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


def _name_lost(images: list[Path], base: Path, labels_dir: Path | None, used: set[str], reading: Reading) -> None:
    """Say which label files of the folders that were read have no image."""
    if reading.source.get("only_labelled") or not base.is_dir():
        return
    parts = list(base.parts)
    places = [i for i, part in enumerate(parts) if part.lower() == "images"]
    folders = (
        [labels_dir]
        if labels_dir
        else [Path(*parts[: places[-1]], "labels", *parts[places[-1] + 1 :])]
        if places
        else [base, base / "labels"]
    )
    listed, everything = {image.parent for image in images}, None
    for folder in folders:
        if not folder.is_dir():
            continue
        for file in Listing(folder).with_suffix(".txt"):
            path = folder / file
            if (
                alike(str(path)) in used
                or path.name.lower() in NAME_FILES
                or (not labels_dir and not places and path.parent not in listed and path.parent.name != "labels")
            ):
                continue
            everything = everything or Listing(reading.root)
            if everything.with_stem(path.stem):
                continue  # its image is of another split, or beside it
            if (lines := _box_lines(path)) is not None:
                reading.problem(Kind.LOST, path, "has no image", boxes=lines)


def _box_lines(path: Path) -> int | None:
    """Lines of a label file; None if a file is none."""
    try:
        lines = [line.split() for line in read_text(path)[0].splitlines() if line.strip()]
    except (FileNotFoundError, ValueError):
        return None
    return len(lines) if all(len(words) >= 5 and as_number(words[1]) is not None for words in lines) else None


def _line_of(annotation: dict, width: int, height: int) -> str:
    x1, y1, x2, y2 = annotation["bbox"]
    values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{annotation['category_id']} {' '.join(f'{v:.8g}' for v in values)}\n"


def link_or_copy(image: Path, target: Path) -> None:
    """A link to an image, or a copy where the system makes no links."""
    try:
        target.symlink_to(image.resolve())
    except OSError:
        import shutil

        shutil.copyfile(image, target)
