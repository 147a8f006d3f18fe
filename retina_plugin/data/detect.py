"""From a folder of images and annotations to a dataset card, without anybody writing one."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from xml.etree import ElementTree

import yaml

from detectron2.data import DatasetCatalog

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.formats.csv import csv_rows
from retina_plugin.data.image_files import SUFFIXES, list_images

logger = logging.getLogger(__name__)

SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test", "testing": "test"}
"""Words in the names of files and folders, and the splits they mean. Digits at the end ("train2017") do not count."""

VAL_SHARE = 0.2
"""Of the images of a dataset that comes without a validation split."""

Found = tuple[list[str], dict[str, dict]]
"""Classes, and split -> paths as in a card; a dataset that is not split has the one split "all"."""


def detect_dataset(path: str | os.PathLike, *, format: str | None = None, name: str | None = None, seed: int = 0) -> DatasetCard:
    """Find out how a dataset is laid out.

    Args:
        path: its folder, or one file of it: a COCO JSON, a CSV, YOLO's data.yaml.
        format: one of ``DETECTORS``; without it they are tried in that order and the first that fits is taken.
        name: of the dataset; without it that of the folder.
        seed: decides which images are for validation where the dataset does not say.

    Returns:
        A card that is not written and not registered. Splits that the dataset has are taken as they are; without "val" a part of
        "train" becomes it.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: nothing there is annotations of a known format; says what was found.
    """
    path = Path(path).expanduser().resolve()
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    root = path if path.is_dir() else path.parent
    files = sorted(file for file in root.rglob("*") if file.is_file() and not any(part.startswith(".") for part in file.relative_to(root).parts)) if path.is_dir() else [path]
    if format is not None and format not in DETECTORS:
        raise ValueError(f"format is {format!r}; known: {', '.join(DETECTORS)}")
    found = {kind: result for kind, detector in DETECTORS.items() if format in (None, kind) and (result := detector(root, files))}
    if not found:
        raise ValueError(_nothing_found(path, files, format))
    kind, (classes, splits) = next(iter(found.items()))
    name = re.sub(r"\W+", "_", name or path.with_suffix("").name).strip("_").lower()
    if others := [other for other in found if other != kind]:
        logger.warning("%s has annotations as %s, too; %s is taken (--data-format chooses)", path, " and ".join(others), kind)
    if not classes:
        raise ValueError(f"{path} is laid out as {kind}, but has not a single class")
    return DatasetCard(
        name=name, format=kind, classes=classes, splits=complete_splits(splits), root=str(root), licence="not known", source=str(path), seed=seed,
        file=Path("datasets") / f"{name}.yaml",
    )  # fmt: skip


def complete_splits(splits: dict[str, dict]) -> dict[str, dict]:
    """Make sure that there is something to train on and something else to validate on.

    Example:
        >>> complete_splits({"all": {"images": "x"}})
        {'train': {'images': 'x', 'part': [0.0, 0.8]}, 'val': {'images': 'x', 'part': [0.8, 1.0]}}
        >>> list(complete_splits({"train": {}, "test": {}}))
        ['train', 'val', 'test']
    """
    rest = dict(splits)
    whole = rest.pop(next(name for name in ("train", "all", *rest) if name in rest))
    if "val" in rest:
        return {"train": whole, "val": rest.pop("val"), **rest}
    train, val = ({**whole, "part": [begin, end]} for begin, end in ((0.0, 1 - VAL_SHARE), (1 - VAL_SHARE, 1.0)))
    return {"train": train, "val": val, **rest}


def write_card(card: DatasetCard, folder: str | os.PathLike = "datasets") -> Path:
    """Write a card to ``folder``, under another name if there is one of other data; a card of the same data stays as it is.

    Returns:
        The path of the card that describes the data.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        name = card.name + (f"_{number}" if number > 1 else "")
        file = folder / f"{name}.yaml"
        if not file.exists() and not any(f"{name}_{split}" in DatasetCatalog for split in card.splits):
            break
        if file.exists():
            there = DatasetCard.from_file(file)
            if (there.root, there.format) == (card.root, card.format):
                return file
        number += 1
    data = {"name": name, "format": card.format, "root": card.root, "classes": card.classes, "splits": card.splits, "seed": card.seed, "licence": card.licence, "source": card.source}
    file.write_text(f"# Found by retina_plugin; edit what it got wrong.\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)}")
    return file


def split_of(words: Iterable[str]) -> str | None:
    """The split that the name of a file or folder means, by its last word that means one.

    Example:
        >>> split_of(["instances_train2017"]), split_of(["valid", "_annotations.coco"]), split_of(["cats"])
        ('train', 'val', None)
    """
    found = [SPLIT_WORDS[word] for text in words for word in re.findall(r"[a-z]+", text.lower()) if word in SPLIT_WORDS]
    return found[-1] if found else None


def _detect_coco(root: Path, files: list[Path]) -> Found | None:
    tables, splits = [], {}
    for file in files:
        if file.suffix != ".json":
            continue
        try:
            data = json.loads(file.read_text())
            names = [category["name"] for category in sorted(data["categories"], key=lambda category: category["id"])]
            first = [image["file_name"] for image in data["images"]]
            boxes = sum("bbox" in annotation for annotation in data["annotations"][:20])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        key = split_of([file.parent.name if file.parent != root else "", file.stem]) or "all"
        folder = _folder_with(first, _folders(root, file.parent), split=key)
        if not boxes or folder is None:
            continue
        splits.setdefault(key, {"images": _from(root, folder), "annotations": _from(root, file)})
        tables.append(names)
    if not splits:
        return None
    # Of different tables the longest: whatever lacks a class of it is found when it is read.
    return max(tables, key=len), splits


def _detect_voc(root: Path, files: list[Path]) -> Found | None:
    folders, classes = {}, set()
    for file in files:
        if file.suffix == ".xml" and (names := _voc_classes(file)) is not None:
            folders.setdefault(file.parent, []).append(file)
            classes |= names
    if not folders:
        return None
    splits = {}
    for folder, members in folders.items():
        lists = {split: file for file in files if file.suffix == ".txt" and file.parent.name == "Main" and (split := SPLIT_WORDS.get(file.stem))}
        names = [ElementTree.parse(member).getroot().findtext("filename") or f"{member.stem}.jpg" for member in members]
        images = _folder_with(names, _folders(root, folder), split=split_of([folder.name]), by_stem=True)
        if images is None:
            continue
        paths = {"images": _from(root, images), "annotations": _from(root, folder)}
        if lists and len(folders) == 1:
            splits = {split: {**paths, "image_set": _from(root, file)} for split, file in lists.items()}
        else:
            splits.setdefault(split_of([folder.name]) or "all", paths)
    return (sorted(classes), splits) if splits else None


def _voc_classes(file: Path) -> set[str] | None:
    """Classes of a VOC file; None for another XML or a broken one."""
    try:
        tree = ElementTree.parse(file).getroot()
    except ElementTree.ParseError:
        return None
    return {(node.findtext("name") or "").strip() for node in tree.iter("object")} - {""} if tree.tag == "annotation" else None


def _detect_yolo(root: Path, files: list[Path]) -> Found | None:
    for file in files:
        if file.suffix in (".yaml", ".yml") and (found := _from_data_yaml(root, file)):
            return found
    return _yolo_without_yaml(root, files)


def _from_data_yaml(root: Path, file: Path) -> Found | None:
    """What YOLO's data.yaml says, or None if it is none."""
    try:
        data = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    if not isinstance(data, dict) or "names" not in data or "train" not in data:
        return None
    names = data["names"]
    classes = [str(names[i]) for i in sorted(names)] if isinstance(names, dict) else [str(name) for name in names]
    splits = {}
    by_folder = _labels_of_splits(root, data)
    for key in ("train", "val", "valid", "test"):
        sources = [data[key]] if isinstance(data.get(key), str) else data.get(key) or []
        if places := [place for source in sources if (place := _yolo_place(root, file, str(data.get("path") or ""), source))]:
            splits[SPLIT_WORDS[key]] = {"images": places[0] if len(places) == 1 else places, **_labels_elsewhere(root, file, places)}
    if len({str(split["images"]) for split in splits.values()}) == 1:  # the same images for everything
        images = next(iter(splits.values()))["images"]
        told_apart = len(by_folder) > 1 and set(by_folder) == set(splits)
        splits = {key: {"images": images, "labels": by_folder[key], "only_labelled": True} for key in splits} if told_apart else {"all": next(iter(splits.values()))}
    return (classes, splits) if splits else None


def _labels_of_splits(root: Path, data: dict) -> dict[str, str]:
    """Split -> a folder of labels that has the name of its images' folder, such as "labels/train2017"."""
    found = {}
    for key in ("train", "val", "valid", "test"):
        wanted = Path(data[key]).name if isinstance(data.get(key), str) else None
        folders = [path for path in sorted(root.rglob("*")) if path.is_dir() and path.name == wanted and path.parent.name == "labels"]
        found |= {SPLIT_WORDS[key]: _from(root, folder) for folder in folders[:1]}
    return found


def _yolo_place(root: Path, file: Path, base: str, source: str) -> str | None:
    """Where the images of a split are, from what data.yaml says about it; paths of another machine are looked for by their ends."""
    parts = [part for part in Path(base, source).parts if part not in ("..", "/")]
    tries = [file.parent / base / source, file.parent / source, root / source, *(root.joinpath(*parts[i:]) for i in range(len(parts)))]
    tries += [folder.joinpath(*parts[i:]) for folder in (root / "images", root.parent) for i in range(len(parts))] + [root / "images"]
    place = next((path for path in tries if path.exists() and (path.is_file() or list_images(path))), None)
    return None if place is None else _from(root, place)


def _labels_elsewhere(root: Path, file: Path, places: list[str]) -> dict[str, str]:
    """The folder of the labels, if it is not where YOLO's rule looks."""
    folder = root / places[0]
    if len(places) > 1 or not folder.is_dir():
        return {}
    images = list_images(folder)
    stems = {image.stem for image in images}
    by_rule = {Path(*("labels" if part == "images" else part for part in image.parts)).with_suffix(".txt") for image in images} | {image.with_suffix(".txt") for image in images}
    if any(path.is_file() for path in by_rule):
        return {}
    candidates = sorted({path.parent for path in root.rglob("*.txt") if path.stem in stems})
    return {"labels": _from(root, candidates[0])} if candidates else {}


def _yolo_without_yaml(root: Path, files: list[Path]) -> Found | None:
    """A folder "labels" beside "images", and class names in classes.txt, obj.names or from the numbers used."""
    labels = [file for file in files if file.suffix == ".txt" and "labels" in file.relative_to(root).parts[:-1]]
    numbers = set()
    for file in labels:
        for line in file.read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) < 5 or not words[0].isdigit():
                return None
            numbers.add(int(words[0]))
    images = root / "images"
    if not numbers or not images.is_dir():
        return None
    named = next((file for file in files if file.name in ("classes.txt", "obj.names", "names.txt")), None)
    classes = named.read_text().split("\n") if named else [str(i) for i in range(max(numbers) + 1)]
    below = {split: folder for folder in sorted(images.iterdir()) if folder.is_dir() and (split := split_of([folder.name]))}
    splits = {split: {"images": _from(root, folder)} for split, folder in below.items()} or {"all": {"images": "images"}}
    return [name.strip() for name in classes if name.strip()], splits


def _detect_csv(root: Path, files: list[Path]) -> Found | None:
    classes, splits = set(), {}
    for file in files:
        if file.suffix.lower() != ".csv":
            continue
        try:
            rows = csv_rows(file)
        except ValueError:
            continue
        names = list(dict.fromkeys(row["file"] for _, row in rows))
        key = split_of([file.parent.name if file.parent != root else "", file.stem]) or "all"
        folder = _folder_with(names, _folders(root, file.parent), split=key)
        if folder is None:
            continue
        classes |= {row["class"] for _, row in rows} - {""}
        splits[key] = {"images": _from(root, folder), "annotations": _from(root, file)}
    if len(splits) == 1 and "train" not in splits:  # a lone test.csv is all there is
        splits = {"all": next(iter(splits.values()))}
    return (sorted(classes), splits) if splits else None


def _detect_labelme(root: Path, files: list[Path]) -> Found | None:
    classes, folders = set(), {}
    for file in files:
        if file.suffix != ".json":
            continue
        try:
            data = json.loads(file.read_text())
            classes |= {str(shape["label"]) for shape in data["shapes"]}
            folders.setdefault(file.parent, data["imagePath"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    splits = {split_of([folder.name]) or "all": {"annotations": _from(root, folder)} for folder in folders}
    return (sorted(classes), splits) if splits else None


DETECTORS: dict[str, Callable[[Path, list[Path]], Found | None]] = {
    "coco": _detect_coco, "voc": _detect_voc, "yolo": _detect_yolo, "csv": _detect_csv, "labelme": _detect_labelme,
}  # fmt: skip
"""By format: what is found in a folder, or None. In the order of what a format can say."""


def _folder_with(names: list[str], folders: list[Path], *, split: str | None = None, by_stem: bool = False) -> Path | None:
    """The folder that has most of the files, of several one that is named as the split, then the first; None if none has any.

    Args:
        names: of image files.
        folders: where to look.
        split: that the images belong to.
        by_stem: whether an ending may differ.
    """

    def has(folder: Path) -> int:
        there = {path.stem if by_stem else path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}
        plain = [Path(name).stem if by_stem else name for name in names]
        return sum(name in there or ("/" in name and (folder / name).is_file()) for name in plain)

    counted = [(has(folder), split is not None and split_of([folder.name]) == split, -i) for i, folder in enumerate(folders)]
    count, _, i = max(counted, default=(0, False, 0))
    return folders[-i] if count else None


def _folders(root: Path, first: Path) -> list[Path]:
    """``first``, and all folders from the root on."""
    return list(dict.fromkeys([first, root, *sorted(path for path in root.rglob("*") if path.is_dir())]))


def _from(root: Path, path: Path) -> str:
    """A path as a card has it."""
    return os.path.relpath(path, root)


def _nothing_found(path: Path, files: list[Path], format: str | None) -> str:
    """What to say of a folder that is laid out in no known way."""
    endings: dict[str, int] = {}
    for file in files:
        endings[file.suffix.lower() or "no ending"] = endings.get(file.suffix.lower() or "no ending", 0) + 1
    there = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items(), key=lambda item: -item[1])[:8]) or "nothing"
    wanted = f"annotations as {format}" if format else "annotations as COCO JSON, VOC XML, YOLO txt, CSV or labelme JSON whose images are there, too"
    return f"{path} has no {wanted}; it holds {there}. datasets/README.md shows how each is laid out"
