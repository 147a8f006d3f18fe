"""Account for every image, annotation file and box of a dataset, in sums that add up."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from retina_plugin.data.card import DatasetCard, names_several
from retina_plugin.data.files import NO_IMAGES, Listing, relative
from retina_plugin.data.image_files import SUFFIXES
from retina_plugin.data.load import LoadResult
from retina_plugin.data.problems import Kind, Problem, shown

ANNOTATIONS = (".json", ".xml", ".csv", ".tsv")
"""Suffixes of files that are listed as unused even if no format recognises them."""

MOST_FILES, MOST_CLASSES = 5, 12
"""Unused files and classes that the text names; the rest becomes "..."."""


@dataclass
class Account:
    """What became of a dataset; see :func:`account_of`.

    Attributes:
        images: number of images in the folder.
        used: number of those that the records name.
        empty: number of used images without a box.
        lost: number of images lost to problems, by kind.
        unnamed: images in the folder that no annotation names.
        files: number of annotation files that were read.
        unused: annotation files that were not read, and why.
        boxes: number of boxes in the annotations.
        kept: number of those in the records, including ``crowds``.
        crowds: number of kept boxes that mark a crowd.
        left_out: number of boxes lost to problems, by kind.
        changed: number of boxes that were clipped.
        classes: number of boxes by class.
        splits: number of images and boxes by split.
    """

    images: int
    used: int
    empty: int
    lost: Counter[Kind]
    unnamed: list[str]
    files: int
    unused: dict[str, str]
    boxes: int
    kept: int
    crowds: int
    left_out: Counter[Kind]
    changed: int
    classes: dict[str, int]
    splits: dict[str, tuple[int, int]]

    def text(self) -> str:
        """Return five lines: images, annotation files, boxes, classes and splits."""
        splits = [f"{split} {images} images with {boxes} boxes" for split, (images, boxes) in self.splits.items()]
        return "\n".join(
            [
                self._images_line(),
                self._files_line(),
                self._boxes_line(),
                self._classes_line(),
                f"splits: {', '.join(splits)}",
            ]
        )

    def _images_line(self) -> str:
        parts = [f"{self.images} images in the folder: {self.used} used ({self.empty} without a box)"]
        parts += [f"{count} lost: {kind.title}" for kind, count in self.lost.items()]
        if self.unnamed:
            parts.append(f"{len(self.unnamed)} not named by any annotation ({_some(self.unnamed)})")
        return "; ".join(parts)

    def _files_line(self) -> str:
        line = f"{self.files + len(self.unused)} annotation files: {self.files} used"
        if self.unused:
            unused = [f"{shown(file)} {shown(why)}" for file, why in self.unused.items()]
            rest = " ..." if len(unused) > MOST_FILES else ""
            line += f", {len(unused)} not: {'; '.join(unused[:MOST_FILES])}{rest}"
        return line

    def _boxes_line(self) -> str:
        line = f"{self.boxes} boxes: {self.kept} used"
        if self.crowds:
            line += f" ({self.crowds} crowd)"
        if self.changed:
            line += f" ({self.changed} clipped)"
        if self.boxes > self.kept:
            left_out = ", ".join(f"{count} {kind.title}" for kind, count in self.left_out.items())
            line += f", {self.boxes - self.kept} left out: {left_out}"
        return line

    def _classes_line(self) -> str:
        most = sorted(self.classes.items(), key=lambda item: -item[1])
        counts = [f"{shown(name)} {count}" for name, count in most[:MOST_CLASSES]]
        if len(most) > MOST_CLASSES:
            counts.append("...")
        return f"{len(self.classes)} classes: {', '.join(counts)}"


def account_of(card: DatasetCard, results: dict[str, LoadResult]) -> Account:
    """Compare what the splits of a card use with what is in its folder.

    Args:
        card: the dataset.
        results: by split, what :func:`retina_plugin.data.load.load_split` returned.
    """
    root = card.root_path()
    listings = _listings(card, root)
    records = [record for result in results.values() for record in result.records]
    problems = [problem for result in results.values() for problem in result.problems]
    used = {record["file_name"] for record in records}
    regular = {str(listing.path(image)): image for listing in listings for image in listing.images}
    special = {
        str(listing.path(file)): file
        for listing in listings
        for file in listing.special
        if PurePosixPath(file).suffix.lower() in SUFFIXES
    }
    files = {relative(file, root) for result in results.values() for file in result.files}
    counts = Counter(x["category_id"] for record in records for x in record["annotations"])
    return Account(
        images=len(regular) + len(special) + len(used - set(regular)),
        used=len(used),
        empty=sum(not record["annotations"] for record in records),
        lost=Counter({kind: n for kind, n in _sums(problems, "images") if kind is not Kind.MERGED}),
        unnamed=_unnamed(regular, special, used, problems),
        files=len(files),
        unused=_unused_files(card, files, listings[0]),
        boxes=sum(result.boxes for result in results.values()),
        kept=sum(counts.values()),
        crowds=sum(bool(x["iscrowd"]) for record in records for x in record["annotations"]),
        left_out=Counter(dict(_sums(problems, "boxes"))),
        changed=sum(problem.kind is Kind.CLIPPED for problem in problems),
        classes={name: counts.get(label, 0) for label, name in enumerate(card.classes)},
        splits={split: (len(result.records), result.boxes_used) for split, result in results.items()},
    )


def _unnamed(regular: dict[str, str], special: dict[str, str], used: set[str], problems: list[Problem]) -> list[str]:
    """Return the images of the folder that neither a record nor a problem names."""
    lost = {problem.file for problem in problems if problem.images}
    named = used | {file for file in lost if Path(file).suffix.lower() not in NO_IMAGES}
    # An image may be named by a path that reaches it through a link.
    resolved = {os.path.realpath(file) for file in named - set(regular)}
    return [image for path, image in {**regular, **special}.items() if path not in named and path not in resolved]


def _unused_files(card: DatasetCard, files: set[str], listing: Listing) -> dict[str, str]:
    """Return the annotation files that were not read, and why.

    Args:
        card: names the files that discovery left out.
        files: annotation files that were read, relative to the root.
        listing: of the root.
    """
    unused = {file: why for file, why in card.left_out.items() if file not in files}
    if any(names_several(file) for file in unused):
        return unused  # the card does not name each of the files, so that those it means cannot be told from others
    names = {PurePosixPath(file).name for file in unused}
    for file in listing.with_suffix(*ANNOTATIONS):
        if file not in files and PurePosixPath(file).name not in names:
            unused[file] = "is not one of the annotations"
    return unused


def _listings(card: DatasetCard, root: Path) -> list[Listing]:
    """Return the listing of the data's folder, then of the image folders that the card names outside of it.

    A folder that contains the data's folder is not listed: it may be a whole disk.
    """
    listings, inside = [Listing(root)], Path(os.path.realpath(root))
    for split in card.splits:
        for source in card.sources(split):
            places = source.get("images", [])
            for place in [places] if isinstance(places, str) else places:
                folder = Path(os.path.realpath(root / str(place)))
                nested = folder.is_relative_to(inside) or inside.is_relative_to(folder)
                listed = folder in [listing.root for listing in listings]
                if folder.is_dir() and not nested and not listed:
                    listings.append(Listing(folder))
    return listings


def _sums(problems: Iterable[Problem], what: str) -> list[tuple[Kind, int]]:
    sums: Counter[Kind] = Counter()
    for problem in problems:
        sums[problem.kind] += getattr(problem, what)
    return [(kind, count) for kind, count in sums.items() if count]


def _some(names: list[str]) -> str:
    return ", ".join(map(shown, sorted(names)[:3])) + (", ..." if len(names) > 3 else "")
