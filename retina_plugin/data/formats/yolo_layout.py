"""Layouts of YOLO datasets: Ultralytics' data.yaml, darknet's obj.data, LabelImg's classes.txt, or folders alone."""

import os
import re
from collections import Counter
from pathlib import PurePosixPath

from retina_plugin.data.files import SPLIT_WORDS, Listing, alike, split_of
from retina_plugin.data.formats.base import Found, Refused, Source
from retina_plugin.data.values import as_id, as_name, as_number, as_size
from retina_plugin.text import read_text, read_yaml

NAME_FILES = (
    "classes.txt",
    "obj.names",
    "names.txt",
    "classes.names",
    "predefined_classes.txt",
    "labels.txt",
    "_darknet.labels",
)
"""Files with the names of the classes, one per line."""

YAML_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
"""Keys of a data.yaml that name images, and their splits."""


def layout_of(listing: Listing) -> Found:
    """Find the splits of a folder by its data.yaml or obj.data, or else by its folders of labels."""
    found = Found()
    for file in listing.with_suffix(".yaml", ".yml"):
        _from_data_yaml(listing, file, found)
    for file in listing.with_suffix(".data"):
        _from_obj_data(listing, file, found)
    if not found.splits and not found.refused:
        _from_folders(listing, found)
    return found


def _from_data_yaml(listing: Listing, file: str, found: Found) -> None:
    """Add the splits of a data.yaml; a path in it that does not exist is refused and not replaced by a guess."""
    try:
        data = read_yaml(listing.path(file), strings=True)
    except (FileNotFoundError, ValueError) as error:
        text = _text(listing, file)
        if re.search(r"^(names|nc)\s*:", text, re.M) and re.search(r"^train\s*:", text, re.M):
            found.refused.append(Refused(file, f"looks like YOLO's data.yaml, but {error}"))
        return
    if not isinstance(data, dict) or "names" not in data or not {"train", "val", "valid", "test"} & set(data):
        return
    sources: dict[str, Source] = {}
    missing: dict[str, str] = {}
    try:
        classes, ids = _names_of(data["names"])
        keypoints = _keypoints_of(data.get("kpt_shape"))
        for key, split in YAML_SPLITS.items():
            if data.get(key) not in (None, "", []):
                source = _source_of(listing, file, data, key)
                if isinstance(source, str):
                    missing[split] = source
                    sources.pop(split, None)
                else:
                    sources[split] = source
                    missing.pop(split, None)
    except ValueError as error:
        found.refused.append(Refused(file, f"looks like YOLO's data.yaml, but {error}"))
        return
    for split, place in missing.items():
        found.refused.append(Refused(file, f"names {place!r} for {split}, which does not exist", split))
    if missing and "train" not in sources:
        return
    if len(sources) > 1 and len({repr(source) for source in sources.values()}) < len(sources):
        only = next(iter(sources.values()))
        stated = {split: repr(data.get(key)) for key, split in SPLIT_WORDS.items() if key in data and split in sources}
        if len(set(stated.values())) > 1:
            reason = f"names different places for {', '.join(stated)}, but only one exists: {only['images']}"
            found.refused.append(Refused(file, reason))
            return
        sources = {"all": only}  # the same images for everything
    if found.splits:
        found.unused[file] = f"{sorted(found.used)[0]} is used instead"
        return
    options: Source = {}
    if ids != list(range(len(ids))):
        options["ids"] = ids
    if keypoints:
        options["keypoints"] = keypoints
    for split, source in sources.items():
        found.add(split, {**source, **options}, [file], classes)


def _names_of(names: object) -> tuple[list[str], list[int]]:
    """Return the names of the classes and their ids in the label files.

    Raises:
        ValueError: the names are neither a list nor a mapping with whole numbers as keys, or a name occurs twice.
    """
    if isinstance(names, str) and names.startswith("["):
        names = [part.strip(" '\"") for part in names.strip("[] ").split(",")]
    if isinstance(names, dict):
        keys = [key for key in map(as_id, names) if isinstance(key, int) and key >= 0]
        if len(keys) < len(names):
            raise ValueError(f"the keys of its names must be whole numbers, got {list(names)[:10]}")
        if len(set(keys)) < len(keys):
            raise ValueError(f"the keys of its names have a number twice: {list(names)[:10]}")
        pairs = sorted(zip(keys, names.values(), strict=True), key=lambda pair: pair[0])
        ids, values = [key for key, _ in pairs], [value for _, value in pairs]
    elif isinstance(names, list):
        ids, values = list(range(len(names))), names
    else:
        raise ValueError(f"its names must be a list or a mapping of numbers to names, got {str(names)[:80]!r}")
    classes = [name for name in map(as_name, values) if name is not None]
    if not classes or len(classes) < len(values):
        raise ValueError(f"its names must be texts, got {str(names)[:200]}")
    if len(set(classes)) < len(classes):
        raise ValueError(f"its names have {sorted({name for name in classes if classes.count(name) > 1})[:5]} twice")
    return classes, ids


def _keypoints_of(shape: object) -> int:
    """Return how many numbers follow each box for a pose: the product of ``kpt_shape``, or 0 if it is not usable."""
    if not isinstance(shape, list) or len(shape) != 2:
        return 0
    points, values = map(as_size, shape)
    return points * values if points is not None and values is not None else 0


def _source_of(listing: Listing, file: str, data: dict, key: str) -> Source | str:
    """Return the source for a key of a data.yaml, or the first of its places that does not exist.

    Raises:
        ValueError: the value is neither a path nor a list of paths.
    """
    stated = data[key] if isinstance(data[key], list) else [data[key]]
    if not all(isinstance(place, str) for place in stated):
        raise ValueError(f"its {key} must be a path or a list of paths, got {str(data[key])[:80]!r}")
    base, here = str(data.get("path") or ""), os.path.dirname(file)
    places: list[str] = []
    labels: list[str] = []
    for place in stated:
        place = place.rstrip("/\\") or place
        images = listing.find_folder(place, bases=[os.path.join(here, base), here, ""])
        if images is not None and (images.endswith(".txt") or listing.images_below(images)):
            places.append(images or ".")
            continue
        folder = _labels_for(listing, place)
        if folder is None:
            return place
        labels.append(folder)
    if not labels:
        return {"images": places[0] if len(places) == 1 else places, **_labels_elsewhere(listing, places)}
    if places or len(labels) > 1:
        return stated[0]
    has_images = "images" in listing.folders and bool(listing.images_below("images"))
    return {"images": "images" if has_images else ".", "labels": labels[0], "only_labelled": True}


def _labels_for(listing: Listing, place: str) -> str | None:
    """Return the folder of labels, such as labels/train2017, for a folder of images that does not exist.

    If all images are in one folder, the labels determine which of them belong to the split.
    """
    name = PurePosixPath(place.replace("\\", "/")).name
    folders = [PurePosixPath(folder) for folder in listing.folders]
    fits = [str(folder) for folder in folders if folder.name == name and folder.parent.name == "labels"]
    return fits[0] if len(fits) == 1 and split_of([name]) else None


def _labels_elsewhere(listing: Listing, places: list[str]) -> dict[str, str]:
    """Return the folder of the labels as an option of the source; empty if it is where YOLO looks, or not found."""
    from retina_plugin.data.formats.yolo import label_file

    if len(places) > 1 or places[0].endswith(".txt"):
        return {}
    folder = listing.path(places[0])
    images = listing.images_below("" if places[0] == "." else places[0])
    if any(label_file(listing.path(image), folder, None) for image in images):
        return {}
    stems = {alike(PurePosixPath(image).stem) for image in images}
    counts: Counter[str] = Counter()
    wanted = split_of([places[0]])
    for file in listing.with_suffix(".txt"):
        path = PurePosixPath(file)
        if alike(path.stem) in stems and path.name.lower() not in NAME_FILES:
            split = split_of([str(path.parent)])
            if not wanted or not split or split == wanted:
                counts[str(path.parent)] += 1
    return {"labels": max(sorted(counts), key=counts.__getitem__)} if counts else {}


def _from_obj_data(listing: Listing, file: str, found: Found) -> None:
    """Add the splits of darknet's obj.data, which CVAT exports, too ("YOLO 1.1").

    Its lines are ``train = list``, ``valid = list`` and ``names = file``.
    """
    pairs = dict(re.findall(r"^\s*(\w+)\s*=\s*(.+?)\s*$", _text(listing, file), re.M))
    if not {"train", "valid", "val", "test"} & set(pairs):
        return
    here = os.path.dirname(file)
    names = listing.find_folder(pairs["names"], bases=[here, ""]) if "names" in pairs else None
    if names is None:
        found.refused.append(Refused(file, f"names {pairs.get('names')!r} for its classes, which does not exist"))
        return
    classes = _class_names(listing, names)
    for key in ("train", "valid", "val", "test"):
        if key not in pairs:
            continue
        place = listing.find_folder(pairs[key], bases=[here, ""])
        if place is None:
            if key == "train" or listing.named(pairs[key]):
                reason = f"names {pairs[key]!r} for {key}, which does not exist"
                found.refused.append(Refused(file, reason, SPLIT_WORDS[key]))
            continue
        lists = [place] if place.endswith(".txt") else []
        found.add(SPLIT_WORDS[key], {"images": place or "."}, [file, names, *lists], classes)
    if list(found.splits) == ["train"]:
        found.splits = {"all": found.splits["train"]}


def _from_folders(listing: Listing, found: Found) -> None:
    """Add the splits of label files that are next to their images or in a folder "labels".

    The classes are listed in a file such as classes.txt, or else are the numbers in the labels.
    """
    names = next((file for file in listing.files if PurePosixPath(file).name.lower() in NAME_FILES), None)
    stems = {alike(PurePosixPath(image).stem) for image in listing.images}
    labels, numbers = _label_files(listing, stems, found)
    if not labels:
        return
    classes = _class_names(listing, names) if names else [str(number) for number in range(max(numbers) + 1)]
    folders = _image_folders(listing, labels)
    for split, folder in folders:
        others = [other for other_split, other in folders if other_split == split and other != folder]
        if any(not other or folder.startswith(f"{other}/") for other in others):
            continue  # part of a folder that is a source itself
        source: Source = {"images": folder or ".", **_labels_elsewhere(listing, [folder or "."])}
        found.add(split, source, [*labels, *([names] if names else [])], classes)


def _label_files(listing: Listing, stems: set[str], found: Found) -> tuple[list[str], set[int]]:
    """Find the label files, and report files that seem to be KITTI's.

    Args:
        listing: files of the dataset.
        stems: stems of the images, in the form of :func:`alike`.
        found: receives files that are not used.

    Returns:
        The files, and the class numbers in them; none if most of the lines are not labels.
    """
    labels: list[str] = []
    numbers: set[int] = set()
    good = bad = 0
    for file in listing.with_suffix(".txt"):
        path = PurePosixPath(file)
        if path.name.lower() in NAME_FILES or ("labels" not in path.parts[:-1] and alike(path.stem) not in stems):
            continue
        labels.append(file)
        for words in map(str.split, _text(listing, file).splitlines()):
            if not words:
                continue
            number = _class_number(words)
            if number is not None:
                good += 1
                numbers.add(number)
                continue
            bad += 1
            if len(words) >= 15 and as_number(words[0]) is None:
                found.unused[file] = "looks like KITTI (class, truncated, occluded, ...), which is not supported"
    return (labels, numbers) if good > bad else ([], set())


def _class_number(words: list[str]) -> int | None:
    """Return the class number of a line with a number and at least four coordinates; None for any other line."""
    if len(words) < 5 or None in map(as_number, words[1:5]):
        return None
    number = as_number(words[0])
    return int(number) if number is not None and 0 <= number < 1e6 and number.is_integer() else None


def _image_folders(listing: Listing, labels: list[str]) -> list[tuple[str | None, str]]:
    """Return the split and the folder of the images with labels, and of other images in a folder of such a split."""
    folders: dict[tuple[str | None, str], None] = {}
    for file in labels:
        folder = _images_of_labels(listing, PurePosixPath(file))
        if folder is not None:
            folders[split_of([folder]) or split_of([os.path.dirname(file)]), folder] = None
    labelled = {split for split, _ in folders}
    for image in listing.images:
        folder = os.path.dirname(image)
        split = split_of([folder])
        if split and split in labelled:
            folders[split, folder] = None
    return list(folders)


def _images_of_labels(listing: Listing, label: PurePosixPath) -> str | None:
    """Return the folder of the image of a label file; None if there is no such image, or more than one fits."""
    same = listing.with_stem(label.stem)
    if not same:
        return None
    folder = str(label.parent) if str(label.parent) != "." else ""
    twins = {
        folder,
        re.sub(r"(^|/)labels(/|$)(?!.*labels)", r"\1images\2", folder).strip("/"),
        re.sub(r"/?labels$", "", folder),
    }
    there = [os.path.dirname(image) for image in same]
    return next((place for place in there if place in twins), there[0] if len(there) == 1 else None)


def _class_names(listing: Listing, file: str) -> list[str]:
    """Return the names of the classes in a file, one per line; a line that is empty is named by its number."""
    names = [as_name(line) for line in _text(listing, file).splitlines()]
    while names and names[-1] is None:
        names.pop()
    return [name if name is not None else f"class {i}" for i, name in enumerate(names)]


def _text(listing: Listing, file: str) -> str:
    """Return the text of a file; empty if it cannot be read."""
    try:
        return read_text(listing.path(file))[0]
    except (FileNotFoundError, ValueError):
        return ""
