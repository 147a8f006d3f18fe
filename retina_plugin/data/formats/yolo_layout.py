"""How people lay out YOLO's files: Ultralytics' data.yaml, darknet's obj.data, LabelImg's classes.txt, or only folders."""

import os
import re
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
"""Files that hold the names of the classes, a line each."""


def layout_of(listing: Listing) -> Found:
    """What a folder says about its splits, in this order: data.yaml, obj.data, folders of labels."""
    found = Found()
    for file in listing.with_suffix(".yaml", ".yml"):
        _from_data_yaml(listing, file, found)
    for file in listing.with_suffix(".data"):
        _from_obj_data(listing, file, found)
    if not found.splits and not found.refused:
        _from_folders(listing, found)
    return found


def _from_data_yaml(listing: Listing, file: str, found: Found) -> None:
    """Take what a data.yaml says; a path in it that is not there is refused, and nothing else takes its place."""
    try:
        data = read_yaml(listing.path(file), strings=True)
    except (FileNotFoundError, ValueError) as error:
        text = _text(listing, file)
        if re.search(r"^(names|nc)\s*:", text, re.M) and re.search(r"^train\s*:", text, re.M):
            found.refused.append(Refused(file, f"looks like YOLO's data.yaml, but {error}"))
        return
    if not isinstance(data, dict) or "names" not in data or not {"train", "val", "valid", "test"} & set(data):
        return
    try:
        classes, ids = _names_of(data["names"])
        keypoints = _keypoints_of(data.get("kpt_shape"))
        sources = {
            split: _source_of(listing, file, data, key, split)
            for key, split in (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test"))
            if data.get(key) not in (None, "", [])
        }
    except ValueError as error:
        found.refused.append(Refused(file, f"looks like YOLO's data.yaml, but {error}"))
        return
    sources = {split: source for split, source in sources.items() if source is not None}
    if any("missing" in source for source in sources.values()):
        for split, source in sources.items():
            if "missing" in source:
                found.refused.append(
                    Refused(file, f"names {source['missing']!r} for {split}, which is not there", split)
                )
        if "train" in sources and "missing" not in sources["train"]:
            sources = {split: source for split, source in sources.items() if "missing" not in source}
        else:
            return
    said = {split: repr(data.get(key)) for key, split in SPLIT_WORDS.items() if key in data and split in sources}
    if len(sources) > 1 and len({repr(source) for source in sources.values()}) < len(sources):
        if len(set(said.values())) > 1:
            found.refused.append(
                Refused(
                    file,
                    f"names different places for {', '.join(said)}, of which only one is there: {next(iter(sources.values()))['images']}",
                )
            )
            return
        sources = {"all": next(iter(sources.values()))}  # the same images for everything
    if found.splits:
        found.unused[file] = f"another data.yaml, {sorted(found.used)[0]}, is used"
        return
    extra = ({"ids": ids} if ids != list(range(len(ids))) else {}) | ({"keypoints": keypoints} if keypoints else {})
    for split, source in sources.items():
        found.add(split, {**source, **extra}, [file], classes)


def _names_of(names: object) -> tuple[list[str], list[int]]:
    """Names of the classes and the ids that they have in the label files.

    Raises:
        ValueError: they are neither a list nor a mapping from whole numbers, or a name is there twice.
    """
    if isinstance(names, str) and names.startswith("["):
        names = [part.strip(" '\"") for part in names.strip("[] ").split(",")]
    if isinstance(names, dict):
        pairs = [(as_id(key), as_name(value)) for key, value in names.items()]
        if any(not isinstance(key, int) or key < 0 for key, _ in pairs):
            raise ValueError(f"the keys of its names must be whole numbers, got {list(names)[:10]}")
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError(f"the keys of its names have a number twice: {list(names)[:10]}")
        pairs.sort(key=lambda pair: pair[0])
        ids, classes = [key for key, _ in pairs], [name for _, name in pairs]
    elif isinstance(names, list):
        classes = [as_name(name) for name in names]
        ids = list(range(len(classes)))
    else:
        raise ValueError(f"its names must be a list or a mapping of numbers to names, got {str(names)[:80]!r}")
    if not classes or None in classes:
        raise ValueError(f"its names must be texts, got {str(names)[:200]}")
    if len(set(classes)) < len(classes):
        raise ValueError(f"its names have {sorted({name for name in classes if classes.count(name) > 1})[:5]} twice")
    return classes, ids


def _keypoints_of(shape: object) -> int:
    """Numbers that follow each box for a pose."""
    numbers = [as_size(value) for value in shape] if isinstance(shape, list) else []
    return numbers[0] * numbers[1] if len(numbers) == 2 and None not in numbers else 0


def _source_of(listing: Listing, file: str, data: dict, key: str, split: str) -> Source | None:
    """Where the images of a split are, or {"missing": what is not there}."""
    said = data[key] if isinstance(data[key], list) else [data[key]]
    if not all(isinstance(place, str) for place in said):
        raise ValueError(f"its {key} must be a path or a list of paths, got {str(data[key])[:80]!r}")
    base, places, labels = str(data.get("path") or ""), [], []
    here = os.path.dirname(file)
    for place in said:
        place = place.rstrip("/\\") or place
        bases = [os.path.join(here, base), here, ""]
        image = listing.find_folder(place, bases=bases)
        if image is None or not (image.endswith(".txt") or listing.images_below(image)):
            folder = _labels_for(listing, place)
            if folder is None:
                return {"missing": place}
            labels.append(folder)
        else:
            places.append(image or ".")
    if labels:
        if places or len(labels) > 1:
            return {"missing": said[0]}
        images = next(
            (folder for folder in ("images", "") if folder in listing.folders and listing.images_below(folder)), ""
        )
        return {"images": images or ".", "labels": labels[0], "only_labelled": True}
    return {"images": places[0] if len(places) == 1 else places, **_labels_elsewhere(listing, places)}


def _labels_for(listing: Listing, place: str) -> str | None:
    """A folder "labels/train2017" for images "images/train2017" of which the folder is not there: the labels tell which images are meant."""
    name = PurePosixPath(place.replace("\\", "/")).name
    fits = [
        folder
        for folder in listing.folders
        if PurePosixPath(folder).name == name and PurePosixPath(folder).parent.name == "labels"
    ]
    return fits[0] if len(fits) == 1 and split_of([name]) else None


def _labels_elsewhere(listing: Listing, places: list[str]) -> dict[str, str]:
    """The folder of the labels, if it is not where YOLO's rule looks."""
    from retina_plugin.data.formats.yolo import label_file

    if len(places) > 1 or places[0].endswith(".txt"):
        return {}
    folder = listing.path(places[0])
    images = listing.images_below("" if places[0] == "." else places[0])
    if any(label_file(listing.path(image), folder, None) for image in images):
        return {}
    stems = {alike(PurePosixPath(image).stem) for image in images}
    counts: dict[str, int] = {}
    for file in listing.with_suffix(".txt"):
        path = PurePosixPath(file)
        if alike(path.stem) in stems and path.name.lower() not in NAME_FILES:
            counts[str(path.parent)] = counts.get(str(path.parent), 0) + 1
    wanted = split_of([places[0]])
    counts = {
        place: n for place, n in counts.items() if not (wanted and split_of([place]) and split_of([place]) != wanted)
    }
    return {"labels": max(sorted(counts), key=counts.get)} if counts else {}


def _from_obj_data(listing: Listing, file: str, found: Found) -> None:
    """Take darknet's obj.data: lines ``train = list``, ``valid = list``, ``names = file``; as CVAT exports "YOLO 1.1"."""
    pairs = dict(re.findall(r"^\s*(\w+)\s*=\s*(.+?)\s*$", _text(listing, file), re.M))
    if not {"train", "valid", "val", "test"} & set(pairs):
        return
    here = os.path.dirname(file)
    names = listing.find_folder(pairs["names"], bases=[here, ""]) if "names" in pairs else None
    if names is None:
        found.refused.append(Refused(file, f"names {pairs.get('names')!r} for its classes, which is not there"))
        return
    classes = _class_names(listing, names)
    for key in ("train", "valid", "val", "test"):
        if key not in pairs:
            continue
        place = listing.find_folder(pairs[key], bases=[here, ""])
        if place is None:
            if key == "train" or listing.named(pairs[key]):
                found.refused.append(
                    Refused(file, f"names {pairs[key]!r} for {key}, which is not there", SPLIT_WORDS[key])
                )
            continue
        found.add(
            SPLIT_WORDS[key],
            {"images": place or "."},
            [file, names, *([place] if place.endswith(".txt") else [])],
            classes,
        )
    if list(found.splits) == ["train"]:
        found.splits = {"all": found.splits["train"]}


def _from_folders(listing: Listing, found: Found) -> None:
    """Label files beside their images or in a folder "labels", and names in classes.txt or from the numbers used."""
    names = next((file for file in listing.files if PurePosixPath(file).name.lower() in NAME_FILES), None)
    stems = {alike(PurePosixPath(image).stem) for image in listing.images}
    numbers, labels = set(), []
    good = bad = 0
    for file in listing.with_suffix(".txt"):
        path = PurePosixPath(file)
        if path.name.lower() in NAME_FILES or ("labels" not in path.parts[:-1] and alike(path.stem) not in stems):
            continue
        labels.append(file)
        for line in _text(listing, file).splitlines():
            words = line.split()
            if not words:
                continue
            first = as_number(words[0]) if len(words) >= 5 else None
            if (
                first is not None
                and first == first
                and 0 <= first < 1e6
                and first == int(first)
                and None not in map(as_number, words[1:5])
            ):
                good += 1
                numbers.add(int(first))
            else:
                bad += 1
                if len(words) >= 15 and as_number(words[0]) is None:
                    found.unused[file] = "looks like KITTI (class, truncated, occluded, ...), which is not read"
    if not labels or good <= bad:
        return
    classes = _class_names(listing, names) if names else [str(number) for number in range(max(numbers) + 1)]
    folders: dict[tuple[str | None, str], None] = {}
    for file in labels:
        folder = _images_of_labels(listing, PurePosixPath(file), stems)
        if folder is not None:
            folders[split_of([folder]) or split_of([os.path.dirname(file)]), folder] = None
    for image in listing.images:  # images without labels belong to the split of their folder
        folder = os.path.dirname(image)
        if (split_of([folder]), folder) not in folders and any(
            split_of([folder]) == split and split for split, _ in folders
        ):
            folders[split_of([folder]), folder] = None
    outer = [
        (split, folder)
        for split, folder in folders
        if not any(
            s == split and other != folder and (not other or folder.startswith(f"{other}/")) for s, other in folders
        )
    ]
    for split, folder in outer:
        source: Source = {"images": folder or "."}
        found.add(
            split,
            {**source, **_labels_elsewhere(listing, [folder or "."])},
            [*labels, *([names] if names else [])],
            classes,
        )


def _images_of_labels(listing: Listing, label: PurePosixPath, stems: set[str]) -> str | None:
    """The folder of the image of a label file."""
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
    names = [as_name(line) for line in _text(listing, file).splitlines()]
    while names and names[-1] is None:
        names.pop()
    return [name if name is not None else f"class {i}" for i, name in enumerate(names)]


def _text(listing: Listing, file: str) -> str:
    try:
        return read_text(listing.path(file))[0]
    except (FileNotFoundError, ValueError):
        return ""
