"""The interface of an annotation format, and what several formats share."""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from retina_plugin.data.files import Listing, split_of
from retina_plugin.data.formats.image_sizes import same_shape
from retina_plugin.data.formats.reading import Reading, Source
from retina_plugin.registry import SlotRegistry

__all__ = [
    "FORMAT_REGISTRY",
    "AnnotationFormat",
    "Found",
    "Reading",
    "Refused",
    "Source",
    "folder_of_images",
    "same_shape",
    "with_unique_stems",
]

FORMAT_REGISTRY = SlotRegistry("annotation format", "format (in the dataset card)")
"""Subclasses of :class:`AnnotationFormat`, in the order in which a folder is tested against them."""


@dataclass
class Refused:
    """A file that looks like annotations of a format but cannot be read as such."""

    file: str
    reason: str
    split: str | None = None


@dataclass
class Found:
    """What a format recognises in a folder.

    Args:
        classes: class names in label order.
        splits: name of a split ("all" if the files name none) to its sources.
        used: annotation files of these sources, relative to the root.
        refused: files that look like this format but cannot be read.
        unused: files of this format that are not used, each with the reason.
    """

    classes: list[str] = field(default_factory=list)
    splits: dict[str, list[Source]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    refused: list[Refused] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)

    def add(self, split: str | None, source: Source, files: Iterable[str], classes: Iterable[str] = ()) -> None:
        """Add one source with its files and its classes."""
        self.splits.setdefault(split or "all", []).append(source)
        self.used.update(files)
        self.classes += [name for name in dict.fromkeys(classes) if name not in self.classes]


class AnnotationFormat:
    """A way to store boxes. Subclasses are registered in :data:`FORMAT_REGISTRY` and have no state.

    Attributes:
        name: the value of ``format`` in a card.
        title: the name shown to users.
    """

    name = ""
    title = ""

    def recognise(self, listing: Listing) -> Found:
        """Find the files of this format in a folder.

        Reads whatever it needs to be sure. A file never makes it raise: it is refused or ignored.
        """
        raise NotImplementedError

    def read(self, source: Source, reading: Reading) -> None:
        """Read one source of a card through ``reading``.

        Raises:
            FileNotFoundError: a file or folder of the source does not exist.
            ValueError: nothing can be read at all. Problems with single items go to ``reading.problem``.
        """
        raise NotImplementedError

    def write(self, records: dict[str, list[dict]], classes: list[str], folder: Path) -> dict[str, list[Source]]:
        """Write cleaned records, by split, to an empty folder.

        Returns:
            The splits of a card whose root is that folder.

        Raises:
            NotImplementedError: the format is read-only.
        """
        raise NotImplementedError(f"{self.title} can be read, but not written")


def folder_of_images(listing: Listing, names: list[str], folder: str, split: str | None) -> str:
    """Return the folder to which most of the file names are relative.

    If several folders fit equally well, the one named after the split is preferred, then the folder of the
    annotations. If there is still no single best folder, the folder of the annotations is returned: each image is then
    looked up by its name, and an image that exists in several folders is reported and left out.

    Args:
        listing: files of the dataset.
        names: file names in the annotations.
        folder: folder of the annotations.
        split: split of the annotations.

    Returns:
        The folder, relative to the root; "." for the root.
    """
    counts: dict[str, int] = defaultdict(int)
    folders = set(listing.folders)
    for name in (name.replace("\\", "/") for name in names[:2000]):
        for found in listing.named(os.path.basename(name)):
            base = _base_of(found, name)
            if base is not None and base in folders:
                counts[base] += 1
    allowed = {base: n for base, n in counts.items() if not _is_of_another_split(base, split)}
    if not allowed:
        return folder or "."
    fit = {base: (allowed[base], split is not None and split_of([base]) == split, base == folder) for base in allowed}
    best = [base for base in fit if fit[base] == max(fit.values())]
    return (best[0] if len(best) == 1 else folder) or "."


def _base_of(path: str, name: str) -> str | None:
    """Return the folder from which ``name`` leads to ``path``, or None if the path does not end in the name."""
    if path == name:
        return ""
    return path[: -len(name) - 1] if path.endswith(f"/{name}") else None


def _is_of_another_split(folder: str, split: str | None) -> bool:
    """Return whether the name of a folder means a split other than ``split``."""
    named = split_of([folder])
    return bool(split and named and named != split)


def with_unique_stems(records: list[dict]) -> dict[int, str]:
    """Return a unique name for the annotation file of each record, by ``id(record)``.

    It is the stem of the image, preceded by as many of its folders as it takes to distinguish it from other images,
    and followed by a number if these do not suffice.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()
    for record in records:
        path = Path(record["file_name"])
        name, depth = path.stem, 1
        while name.casefold() in taken and depth < len(path.parts) - 1:
            depth += 1
            name = "_".join([*path.parts[-depth:-1], path.stem])
        base, number = name, 2
        while name.casefold() in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name.casefold())
        names[id(record)] = name
    return names
