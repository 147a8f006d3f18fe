"""Finds or makes the card of a dataset from a path or name, and reports every annotation file that is not used."""

import logging
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

from retina_plugin.data.card import NAME, DatasetCard, several
from retina_plugin.data.catalog import FOUND, card_folders, is_card
from retina_plugin.data.files import Listing
from retina_plugin.data.formats import FORMAT_REGISTRY, Found, Refused
from retina_plugin.data.load import load_split
from retina_plugin.data.problems import shown
from retina_plugin.data.stratify import best_seed
from retina_plugin.text import read_yaml

logger = logging.getLogger(__name__)

NOT_READ = [
    ("Supervisely (ann/ next to img/ or meta.json)", lambda file: PurePosixPath(file).name == "meta.json"),
    ("DOTA (labelTxt/)", lambda file: "labelTxt" in PurePosixPath(file).parts),
    ("CreateML JSON", lambda file: file.endswith(".createml.json")),
    ("Cityscapes (gtFine/)", lambda file: file.endswith("_polygons.json")),
    ("Hugging Face's ImageFolder (metadata.jsonl)", lambda file: PurePosixPath(file).name == "metadata.jsonl"),
    ("WIDER FACE", lambda file: PurePosixPath(file).name.startswith("wider_face_")),
]
"""Formats that are recognised by a file name, but not supported."""

VAL_SHARE = 0.2
"""Share of the images used for validation if a dataset has no validation split."""


def find_card(data: str | os.PathLike, *, format: str | None = None) -> DatasetCard:  # noqa: A002 (a card's key)
    """Return a card given by its path, by the name of one in a ``datasets`` folder, or made for data that has none.

    Args:
        data: a folder or file of data, a card, a folder that contains one card, or a name such as "digits".
        format: of the annotations, if ``data`` is a folder with several formats.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: it is not a dataset.
    """
    path = Path(data).expanduser()
    try:
        file = _existing_card(path, in_folder=format is None) or _card_named(data, path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    return DatasetCard.from_file(file) if file else discover(path, format=format)


def _existing_card(path: Path, *, in_folder: bool) -> Path | None:
    """Return the path itself if it is a card, or, if ``in_folder``, the only card in it.

    Raises:
        ValueError: the folder has several cards, or the file is not YAML.
    """
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        read_yaml(path)  # refuses a file that is not YAML
        return path if is_card(path) else None
    if not path.is_dir() or not in_folder:
        return None
    cards = [file for file in sorted(path.glob("*.yaml")) if is_card(file)]
    if len(cards) > 1:
        names = ", ".join(card.name for card in cards[:5])
        raise ValueError(f"{path} contains {len(cards)} cards, {names}: choose one of them")
    return cards[0] if cards else None


def _card_named(name: str | os.PathLike, path: Path) -> Path | None:
    """Return the card of a name that is not a path, from the ``datasets`` folders."""
    if path.exists() or not NAME.fullmatch(os.fspath(name)):
        return None
    return next((file for folder in card_folders() if (file := folder / f"{name}.yaml").is_file()), None)


def discover(
    path: str | os.PathLike,
    *,
    format: str | None = None,  # noqa: A002 (a card's key)
    name: str | None = None,
    seed: int | None = None,
) -> DatasetCard:
    """Find out how a dataset is laid out and make a card for it.

    Args:
        path: its folder, or one file of it: a COCO JSON, a CSV, YOLO's data.yaml.
        format: a name in ``FORMAT_REGISTRY``; None tries all formats and takes the first that fits.
        name: of the dataset; None takes the name of the folder.
        seed: decides which images are used for validation if the dataset does not; None: the one with which every class
            has its share.

    Returns:
        A card that is neither written nor registered. The splits of the dataset are kept; if there is no "val", a part
        of "train" becomes it. ``left_out`` lists the annotation files that are not used.

    Raises:
        FileNotFoundError: ``path`` does not exist.
        ValueError: there are no annotations of a known format, a file of a split cannot be read, or it is not clear
            what to train on; lists what was found.
    """
    try:
        path = Path(path).expanduser().resolve()
        exists = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"the path {shown(path)} cannot be followed: {error}") from error
    if not exists:
        raise FileNotFoundError(f"{path} does not exist")
    known = [kind for kind, _ in FORMAT_REGISTRY]
    if format is not None and format not in known:
        raise ValueError(f"format is {format!r}; known: {', '.join(known)}")
    root, listing = _listing_for(path)
    found = {kind: FORMAT_REGISTRY.get(kind)().recognise(listing) for kind in known if format in (None, kind)}
    if path.is_file():
        file = path.name if path.parent == root else os.path.relpath(path, root)
        found = {kind: _only(one, file) for kind, one in found.items()}
    kind = next((kind for kind, one in found.items() if one.splits), None)
    if kind is None:
        if refused := [one for other in found.values() for one in other.refused]:
            raise ValueError("; ".join(dict.fromkeys(_refusal(root, one) for one in refused[:5])))
        unused = {file: why for one in found.values() for file, why in one.unused.items()}
        raise ValueError(_nothing_found(path, listing, format, unused))
    chosen = found[kind]
    if chosen.refused:
        refusals = "; ".join(_refusal(root, one) for one in chosen.refused[:5])
        rest = ", ".join(sorted(chosen.used)[:3]) + (" ..." if len(chosen.used) > 3 else "")
        raise ValueError(f"{refusals}. Fix it, or move it out of the folder to continue with {rest}")
    splits, left_out = _settled(chosen, path)
    left_out |= _others(found, kind)
    if not chosen.classes:
        raise ValueError(f"{path} is laid out as {FORMAT_REGISTRY.get(kind).title}, but has no classes")
    for file, why in left_out.items():
        logger.warning("%s: %s is not used: %s", path, file, why)
    name = name or (path.name if path.is_dir() else path.stem)
    name = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower() or "data"
    card = DatasetCard(
        name=name,
        format=kind,
        classes=chosen.classes,
        splits=complete_splits(splits),
        root=str(root),
        licence="not known",
        source=str(path),
        seed=seed or 0,
        left_out=left_out,
        file=Path("datasets") / FOUND / f"{name}.yaml",
    )
    return card if seed is not None or card.part("train") is None else replace(card, seed=_fair_seed(card))


def _fair_seed(card: DatasetCard) -> int:
    """Return the seed with which the part of the images that becomes "val" has its share of every class."""
    try:
        records = [record for split in ("train", "val") for record in load_split(card, split, look=False).records]
    except (OSError, ValueError):  # whoever loads the data reports it
        return 0
    return best_seed(records, VAL_SHARE)


def _listing_for(path: Path) -> tuple[Path, Listing]:
    """Return the folder of the data and its listing; for a file, the folder with images that contains it.

    Raises:
        ValueError: the path is neither a folder nor a file.
    """
    if path.is_dir():
        return path, Listing(path)
    if not path.is_file():
        raise ValueError(f"{path} is a pipe, socket or device; expected a folder or file")
    listing = Listing(path.parent)
    if not listing.images and len(path.parts) > 3:
        above = Listing(path.parent.parent)
        if above.images:
            return path.parent.parent, above
    return path.parent, listing


def _only(found: Found, file: str) -> Found:
    """Reduce what a format recognised to the one file that was asked for, as the whole dataset, whatever its name."""
    if any(one.file == file for one in found.refused):
        return Found(refused=[one for one in found.refused if one.file == file])
    named = {
        split: [source for source in sources if file in (source.get("annotations"), source.get("data_yaml"))]
        for split, sources in found.splits.items()
    }
    named = {split: sources for split, sources in named.items() if sources}
    if named:
        sources = [source for part in named.values() for source in part]
        return Found(found.classes, {"all": sources} if len(named) == 1 else named, {file})
    if file in found.used and file.lower().endswith((".yaml", ".yml", ".data")):
        return found
    return Found()


def _refusal(root: Path, one: Refused) -> str:
    """Return a file and why it cannot be read, naming the file once: some reasons start with it."""
    file = str(root / one.file)
    return one.reason if one.reason.startswith(file) else f"{file}: {one.reason}"


def _settled(found: Found, path: Path) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """Return the splits to use, and the files that none of them uses, with the reason.

    Raises:
        ValueError: there are only splits that are not for training.
    """
    splits, left_out = dict(found.splits), dict(found.unused)
    named = [split for split in splits if split != "all"]
    if "all" in splits and "train" in named:
        for source in splits.pop("all"):
            left_out[_file_of(source)] = f"its name names no split, and there are files for {', '.join(named)}"
    elif "all" in splits and named:
        splits["train"] = splits.pop("all")
    if "train" not in splits and "all" not in splits:
        files = [_file_of(source) for split in named for source in splits[split]]
        raise ValueError(
            f"{path} has annotations for {' and '.join(named)} only ({', '.join(files[:3])}), but none for training. "
            "Give the file or folder itself to train on a part of it and validate on the rest"
        )
    return splits, left_out


def _file_of(source: dict[str, object]) -> str:
    """Return the annotations of a source, or its images if it has no annotations of its own."""
    return str(source.get("annotations", source.get("images")))


def _others(found: dict[str, Found], kind: str) -> dict[str, str]:
    """Return the annotation files of other formats and the files that only look like annotations, with the reason.

    More than three files of a format are one entry, see :func:`retina_plugin.data.card.several`.
    """
    used, left_out = found[kind].used, {}
    for other, one in found.items():
        if other == kind:
            continue
        title, taken = FORMAT_REGISTRY.get(other).title, FORMAT_REGISTRY.get(kind).title
        files = sorted(file for file in one.used if file not in used)
        if len(files) > 3:
            left_out[several(files[0], len(files))] = f"are {title}; {taken} is used (--data-format {other} uses them)"
        else:
            left_out |= dict.fromkeys(files, f"is {title}; {taken} is used (--data-format {other} uses it)")
        left_out |= {one.file: one.reason for one in one.refused if one.file not in used}
        left_out |= {file: why for file, why in one.unused.items() if file not in used}
    return left_out


def complete_splits(splits: dict[str, list[dict]]) -> dict[str, dict | list[dict]]:
    """Return splits with a "train" and a "val": if there is no "val", a part of the training images becomes it.

    Example:
        >>> complete_splits({"all": [{"images": "x"}]})
        {'train': {'images': 'x', 'part': [0.0, 0.8]}, 'val': {'images': 'x', 'part': [0.8, 1.0]}}
        >>> list(complete_splits({"train": [{}], "test": [{}]}))
        ['train', 'val', 'test']
    """
    rest: dict[str, dict | list[dict]] = {
        split: sources[0] if len(sources) == 1 else sources for split, sources in splits.items()
    }
    whole = rest.pop("train") if "train" in rest else rest.pop("all")
    if "val" in rest:
        return {"train": whole, "val": rest.pop("val"), **rest}

    return {"train": _part(whole, 0.0, 1 - VAL_SHARE), "val": _part(whole, 1 - VAL_SHARE, 1.0), **rest}


def _part(sources: dict | list[dict], start: float, end: float) -> dict | list[dict]:
    """Return the source or sources of a split, reduced to a share of the images."""
    if isinstance(sources, dict):
        return {**sources, "part": [start, end]}
    return [{**sources[0], "part": [start, end]}, *sources[1:]]


def write_card(card: DatasetCard, folder: str | os.PathLike) -> tuple[Path, list[str]]:
    """Write a card for data that was found.

    An earlier card for the same data is overwritten; if a card for different data has the name, a number is appended.

    Args:
        card: from :func:`discover`.
        folder: created if it does not exist.

    Returns:
        The path of the card, and one line per change since it was last written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        named = replace(card, name=card.name + (f"_{number}" if number > 1 else ""))
        named = replace(named, file=folder / f"{named.name}.yaml")
        taken = any(
            (other / f"{named.name}.yaml").is_file() for other in card_folders() if other.resolve() != folder.resolve()
        )
        before = _card_at(named.file)
        if not taken and (before is None or (before.root, before.format) == (named.root, named.format)):
            break
        number += 1
    changes = []
    if before is not None:
        for what in ("classes", "splits", "left_out"):
            was, now = getattr(before, what), getattr(named, what)
            if was != now:
                changes.append(f"{what} changed from {shown(was)} to {shown(now)}")
        named = replace(named, licence=before.licence, value_range=before.value_range)
        if set(before.splits) == set(named.splits):  # a few new images do not change where the others are
            named = replace(named, seed=before.seed)
    comment = "# Found by retina_plugin, which overwrites this file on every search; copy it elsewhere to edit it."
    named.file.write_text(f"{comment}\n{named.text()}", encoding="utf-8")
    return named.file, changes


def _card_at(file: Path) -> DatasetCard | None:
    try:
        return DatasetCard.from_file(file)
    except (FileNotFoundError, ValueError):
        return None


def _nothing_found(path: Path, listing: Listing, kind: str | None, unused: dict[str, str]) -> str:
    """Return the message for a folder that is not laid out in any known way."""
    suffixes = Counter(PurePosixPath(file).suffix.lower() or "without suffix" for file in listing.files)
    contents = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(8)) or "nothing"
    wanted = f"annotations in the format {kind}"
    if not kind:
        wanted = (
            "annotations as COCO JSON, VOC XML, YOLO txt, CSV, labelme JSON, VIA or CVAT together with their images"
        )
    why = "".join(f"; {file} {reason}" for file, reason in list(unused.items())[:3])
    titles = [title for title, is_it in NOT_READ if any(map(is_it, listing.files))]
    known = f"; it looks like {titles[0]}, which is not supported" if titles else ""
    return f"{path} has no {wanted}; it contains {contents}{why}{known}. datasets/README.md shows each layout"
