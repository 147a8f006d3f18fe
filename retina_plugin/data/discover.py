"""From whatever somebody calls their data to a dataset card, with a word about every file that is not used."""

import logging
import os
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from retina_plugin.data.card import NAME, DatasetCard
from retina_plugin.data.catalog import FOUND, card_folders, is_card
from retina_plugin.data.files import Listing
from retina_plugin.data.formats import FORMAT_REGISTRY, Found, Refused
from retina_plugin.data.problems import shown
from retina_plugin.text import read_yaml

logger = logging.getLogger(__name__)

NOT_READ = [
    ("Supervisely (ann/ beside img/ or meta.json)", lambda file: PurePosixPath(file).name == "meta.json"),
    ("DOTA (labelTxt/)", lambda file: "labelTxt" in PurePosixPath(file).parts),
    ("CreateML JSON", lambda file: file.endswith(".createml.json")),
    ("Cityscapes (gtFine/)", lambda file: file.endswith("_polygons.json")),
    ("Hugging Face's ImageFolder (metadata.jsonl)", lambda file: PurePosixPath(file).name == "metadata.jsonl"),
    ("WIDER FACE", lambda file: PurePosixPath(file).name.startswith("wider_face_")),
]
"""What is known by a file name and not read."""

VAL_SHARE = 0.2
"""Of the images of a dataset that comes without a validation split."""


def find_card(data: str | os.PathLike, *, format: str | None = None) -> DatasetCard:
    """A card by its path, by the name of one in a ``datasets`` folder, or made for a folder that has none.

    Args:
        data: a folder or file of data, a card, a folder that holds one card, or a name such as "digits".
        format: of the annotations, if ``data`` is a folder with several.

    Raises:
        FileNotFoundError: there is no such thing.
        ValueError: it is no dataset.
    """
    path = Path(data).expanduser()
    try:
        if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
            read_yaml(path)  # what is no YAML at all is said as such
            if is_card(path):
                return DatasetCard.from_file(path)
        if path.is_dir() and format is None:
            cards = [file for file in sorted(path.glob("*.yaml")) if is_card(file)]
            if len(cards) == 1:
                return DatasetCard.from_file(cards[0])
            if cards:
                raise ValueError(
                    f"{path} holds {len(cards)} cards, {', '.join(card.name for card in cards[:5])}: give one of them"
                )
        if not path.exists() and NAME.fullmatch(os.fspath(data)):
            for folder in card_folders():
                if (file := folder / f"{data}.yaml").is_file():
                    return DatasetCard.from_file(file)
    except OSError as error:
        raise ValueError(f"{path} cannot be looked at: {error.strerror}") from error
    return discover(path, format=format)


def discover(
    path: str | os.PathLike, *, format: str | None = None, name: str | None = None, seed: int = 0
) -> DatasetCard:
    """Find out how a dataset is laid out.

    Args:
        path: its folder, or one file of it: a COCO JSON, a CSV, YOLO's data.yaml.
        format: one of ``FORMAT_REGISTRY``; without it all are tried, and the first that fits is taken.
        name: of the dataset; without it that of the folder.
        seed: decides which images are for validation where the dataset does not say.

    Returns:
        A card that is not written and not registered. Splits that the dataset has are taken as they are; without "val" a part of
        "train" becomes it. ``left_out`` names the annotation files that are not used.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: nothing there is annotations of a known format, a file of a split cannot be read, or it is not clear what is to be
            trained on; says what was found.
    """
    try:
        path = Path(path).expanduser().resolve()
        exists = path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{shown(path)} is no path that can be followed: {error}") from error
    if not exists:
        raise FileNotFoundError(f"{path} does not exist")
    known = [kind for kind, _ in FORMAT_REGISTRY]
    if format is not None and format not in known:
        raise ValueError(f"format is {format!r}; known: {', '.join(known)}")
    root, listing = _listing_for(path)
    found = {kind: FORMAT_REGISTRY.get(kind)().recognise(listing) for kind in known if format in (None, kind)}
    if path.is_file():
        found = {
            kind: _only(one, path.name if path.parent == root else os.path.relpath(path, root))
            for kind, one in found.items()
        }
    kind = next((kind for kind, one in found.items() if one.splits), None)
    refused = [one for other in found.values() for one in other.refused]
    if kind is None:
        if refused:
            raise ValueError("; ".join(dict.fromkeys(_told(root, one) for one in refused[:5])))
        raise ValueError(
            _nothing_found(
                path, listing, format, {file: why for one in found.values() for file, why in one.unused.items()}
            )
        )
    chosen = found[kind]
    if chosen.refused:
        raise ValueError(
            "; ".join(_told(root, one) for one in chosen.refused[:5])
            + f". Mend it, or take it out of the folder to go on with {', '.join(sorted(chosen.used)[:3])}{' ...' if len(chosen.used) > 3 else ''}"
        )
    splits, left_out = _settled(chosen, path)
    left_out |= _others(found, kind)
    if not chosen.classes:
        raise ValueError(f"{path} is laid out as {FORMAT_REGISTRY.get(kind).title}, but has not a single class")
    for file, why in left_out.items():
        logger.warning("%s: %s is not used: %s", path, file, why)
    name = (
        re.sub(r"[^A-Za-z0-9]+", "_", name or (path.name if path.is_dir() else path.stem)).strip("_").lower() or "data"
    )
    return DatasetCard(
        name=name,
        format=kind,
        classes=chosen.classes,
        splits=complete_splits(splits),
        root=str(root),
        licence="not known",
        source=str(path),
        seed=seed,
        left_out=left_out,
        file=Path("datasets") / FOUND / f"{name}.yaml",
    )


def _listing_for(path: Path) -> tuple[Path, Listing]:
    """The folder of the data, and what is in it; of a file the folder around it that has images."""
    if path.is_dir():
        return path, Listing(path)
    if not path.is_file():
        raise ValueError(f"{path} is a pipe, socket or device, where a folder or file is expected")
    listing = Listing(path.parent)
    if not listing.images and len(path.parts) > 3:
        above = Listing(path.parent.parent)
        if above.images:
            return path.parent.parent, above
    return path.parent, listing


def _only(found: Found, file: str) -> Found:
    """What a format recognises of a single file that was asked for: it is the whole data set, whatever its name."""
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


def _told(root: Path, one: Refused) -> str:
    """A file and why it cannot be read; some reasons begin with the file."""
    file = str(root / one.file)
    return one.reason if one.reason.startswith(file) else f"{file}: {one.reason}"


def _settled(found: Found, path: Path) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """The splits to use, and files that none of them uses, with the reason.

    Raises:
        ValueError: only a part that is not for training is there.
    """
    splits, left_out = dict(found.splits), dict(found.unused)
    named = [split for split in splits if split != "all"]
    if "all" in splits and named:
        if "train" in named:
            for source in splits.pop("all"):
                left_out[str(source.get("annotations", source.get("images")))] = (
                    f"its name says no split, and {', '.join(named)} are there"
                )
        else:
            splits["train"] = splits.pop("all")
    if "train" not in splits and "all" not in splits:
        files = [str(source.get("annotations", source.get("images"))) for split in named for source in splits[split]]
        raise ValueError(
            f"{path} has annotations for {' and '.join(named)} only ({', '.join(files[:3])}): nothing is for training. Give the file or folder itself to train on a part of it and validate on the rest"
        )
    return splits, left_out


def _others(found: dict[str, Found], kind: str) -> dict[str, str]:
    """Annotation files of other formats, and files that only look like annotations."""
    used, left_out = found[kind].used, {}
    for other, one in found.items():
        if other == kind:
            continue
        title = FORMAT_REGISTRY.get(other).title
        files = sorted(file for file in one.used if file not in used)
        if len(files) > 3:
            left_out[f"{files[0]} and {len(files) - 1} more"] = (
                f"are {title}; {FORMAT_REGISTRY.get(kind).title} is taken (--data-format {other} takes them)"
            )
        else:
            left_out |= {
                file: f"is {title}; {FORMAT_REGISTRY.get(kind).title} is taken (--data-format {other} takes it)"
                for file in files
            }
        left_out |= {one.file: one.reason for one in one.refused if one.file not in used}
        left_out |= {file: why for file, why in one.unused.items() if file not in used}
    return left_out


def complete_splits(splits: dict[str, list[dict]]) -> dict[str, dict | list[dict]]:
    """Make sure that there is something to train on and something else to validate on.

    Example:
        >>> complete_splits({"all": [{"images": "x"}]})
        {'train': {'images': 'x', 'part': [0.0, 0.8]}, 'val': {'images': 'x', 'part': [0.8, 1.0]}}
        >>> list(complete_splits({"train": [{}], "test": [{}]}))
        ['train', 'val', 'test']
    """
    rest = {split: sources[0] if len(sources) == 1 else sources for split, sources in splits.items()}
    whole = rest.pop("train") if "train" in rest else rest.pop("all")
    if "val" in rest:
        return {"train": whole, "val": rest.pop("val"), **rest}

    def part(begin: float, end: float) -> dict | list[dict]:
        first = whole if isinstance(whole, dict) else whole[0]
        first = {**first, "part": [begin, end]}
        return first if isinstance(whole, dict) else [first, *whole[1:]]

    return {"train": part(0.0, 1 - VAL_SHARE), "val": part(1 - VAL_SHARE, 1.0), **rest}


def write_card(card: DatasetCard, folder: str | os.PathLike) -> tuple[Path, list[str]]:
    """Write a card of data that was found to ``folder``, anew each time, under another name if there is one of other data.

    Returns:
        Its path, and a line for everything that has changed since it was written last.
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
                changes.append(f"{what} were {shown(was)}, and are now {shown(now)}")
        named = replace(named, licence=before.licence, value_range=before.value_range)
    named.file.write_text(
        f"# Found by retina_plugin, and written anew whenever it looks; copy it elsewhere to edit it.\n{named.text()}",
        encoding="utf-8",
    )
    return named.file, changes


def _card_at(file: Path) -> DatasetCard | None:
    try:
        return DatasetCard.from_file(file)
    except (FileNotFoundError, ValueError):
        return None


def _nothing_found(path: Path, listing: Listing, format: str | None, unused: dict[str, str]) -> str:
    """What to say of a folder that is laid out in no known way."""
    endings: dict[str, int] = {}
    for file in listing.files:
        ending = PurePosixPath(file).suffix.lower() or "no ending"
        endings[ending] = endings.get(ending, 0) + 1
    there = (
        ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items(), key=lambda item: -item[1])[:8])
        or "nothing"
    )
    wanted = (
        f"annotations as {format}"
        if format
        else "annotations as COCO JSON, VOC XML, YOLO txt, CSV, labelme JSON, VIA or CVAT whose images are there, too"
    )
    why = "".join(f"; {file} {reason}" for file, reason in list(unused.items())[:3])
    known = next(
        (
            f"; it looks like {title}, which is not read"
            for title, is_it in NOT_READ
            if any(is_it(file) for file in listing.files)
        ),
        "",
    )
    return f"{path} has no {wanted}; it holds {there}{why}{known}. datasets/README.md shows how each is laid out"
