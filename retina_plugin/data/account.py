"""What became of every image, annotation file and box of a dataset: sums that add up."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.files import NO_IMAGES, Listing, relative
from retina_plugin.data.image_files import SUFFIXES
from retina_plugin.data.load import LoadResult
from retina_plugin.data.problems import Kind, shown

ANNOTATIONS = (".json", ".xml", ".csv", ".tsv")
"""Endings of files that are named if nothing uses them, though nothing recognises them either."""


@dataclass
class Account:
    """See :func:`account_of`; ``text`` is five lines.

    Attributes:
        images: in the folder.
        used: of them that the records name.
        empty: used images without a box.
        lost: images that problems cost, by kind.
        unnamed: images in the folder that no annotation names.
        files: annotation files that were read.
        unused: annotation files that were not, and why.
        boxes: that the annotations hold.
        kept: of them in the records, ``crowds`` of these.
        left_out: boxes that problems cost, by kind.
        changed: boxes that were clipped.
        classes: boxes by class.
        splits: images and boxes by split.
    """

    images: int
    used: int
    empty: int
    lost: Counter
    unnamed: list[str]
    files: int
    unused: dict[str, str]
    boxes: int
    kept: int
    crowds: int
    left_out: Counter
    changed: int
    classes: dict[str, int]
    splits: dict[str, tuple[int, int]]

    def text(self) -> str:
        """Five lines: images, annotation files, boxes, classes, splits."""
        rest = [f"{count} lost: {kind.title}" for kind, count in self.lost.items()]
        rest += [f"{len(self.unnamed)} that no annotation names ({_some(self.unnamed)})"] if self.unnamed else []
        lines = [
            f"{self.images} images in the folder: {self.used} used ({self.empty} without a box)"
            + (f"; {'; '.join(rest)}" if rest else "")
        ]
        unused = "; ".join(f"{shown(file)} {shown(why)}" for file, why in list(self.unused.items())[:5]) + (
            " ..." if len(self.unused) > 5 else ""
        )
        lines.append(
            f"{self.files + len(self.unused)} annotation files: {self.files} used"
            + (f", {len(self.unused)} not: {unused}" if self.unused else "")
        )
        left = ", ".join(f"{count} {kind.title}" for kind, count in self.left_out.items())
        lines.append(
            f"{self.boxes} boxes: {self.kept} used"
            + (f" ({self.crowds} crowd)" if self.crowds else "")
            + (f" ({self.changed} clipped)" if self.changed else "")
            + (f", {self.boxes - self.kept} left out: {left}" if self.boxes > self.kept else "")
        )
        most = sorted(self.classes.items(), key=lambda item: -item[1])
        lines.append(
            f"{len(self.classes)} classes: {', '.join(f'{shown(name)} {count}' for name, count in most[:12])}{', ...' if len(most) > 12 else ''}"
        )
        lines.append(
            "splits: "
            + ", ".join(f"{split} {images} images with {boxes} boxes" for split, (images, boxes) in self.splits.items())
        )
        return "\n".join(lines)


def account_of(card: DatasetCard, results: dict[str, LoadResult]) -> Account:
    """Add up what the splits of a card use, and what lies in its folder."""
    root = card.root_path()
    listings = _listings(card, root)
    there = {str(listing.path(image)): image for listing in listings for image in listing.images}
    special = {
        str(listing.path(odd)): odd
        for listing in listings
        for odd in listing.special
        if PurePosixPath(odd).suffix.lower() in SUFFIXES
    }
    used = {record["file_name"] for result in results.values() for record in result.records}
    problems = [problem for result in results.values() for problem in result.problems]
    named = used | {
        problem.file for problem in problems if problem.images and Path(problem.file).suffix.lower() not in NO_IMAGES
    }
    resolved = {os.path.realpath(file) for file in named - set(there)}
    unnamed = [image for path, image in {**there, **special}.items() if path not in named and path not in resolved]
    files = {relative(file, root) for result in results.values() for file in result.files}
    unused = {file: why for file, why in card.left_out.items() if file not in files}
    stems = {PurePosixPath(file).name for file in unused}
    for listing in listings[:1]:
        for file in listing.with_suffix(*ANNOTATIONS):
            if (
                file not in files
                and file not in unused
                and PurePosixPath(file).name not in stems
                and not any(why.startswith("are ") for why in unused.values())
            ):
                unused[file] = "is not one of the annotations"
    records = [record for result in results.values() for record in result.records]
    counts = Counter(x["category_id"] for record in records for x in record["annotations"])
    return Account(
        images=len(there) + len(special) + len(used - set(there)),
        used=len(used),
        empty=sum(not record["annotations"] for record in records),
        lost=Counter({kind: n for kind, n in _sums(problems, "images") if kind is not Kind.MERGED}),
        unnamed=unnamed,
        files=len(files),
        unused=unused,
        boxes=sum(result.boxes for result in results.values()),
        kept=sum(counts.values()),
        crowds=sum(bool(x["iscrowd"]) for record in records for x in record["annotations"]),
        left_out=Counter(dict(_sums(problems, "boxes"))),
        changed=sum(problem.kind is Kind.CLIPPED for problem in problems),
        classes={name: counts.get(label, 0) for label, name in enumerate(card.classes)},
        splits={split: (len(result.records), result.boxes_used) for split, result in results.items()},
    )


def _listings(card: DatasetCard, root: Path) -> list[Listing]:
    """The folder of the data, and folders of images that the card names outside of it; not one that holds it: that may be a whole disk."""
    listings, inside = [Listing(root)], Path(os.path.realpath(root))
    for split in card.splits:
        for source in card.sources(split):
            places = source.get("images", [])
            for place in [places] if isinstance(places, str) else places:
                folder = Path(os.path.realpath(root / str(place)))
                if (
                    folder.is_dir()
                    and not folder.is_relative_to(inside)
                    and not inside.is_relative_to(folder)
                    and folder not in [listing.root for listing in listings]
                ):
                    listings.append(Listing(folder))
    return listings


def _sums(problems: Iterable, what: str) -> list[tuple[Kind, int]]:
    sums: Counter = Counter()
    for problem in problems:
        sums[problem.kind] += getattr(problem, what)
    return [(kind, count) for kind, count in sums.items() if count]


def _some(names: list[str]) -> str:
    return ", ".join(map(shown, sorted(names)[:3])) + (", ..." if len(names) > 3 else "")
