"""What lies in a folder, and the image that an annotation means."""

import os
import re
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from retina_plugin.data.image_files import SUFFIXES

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Words in the names of files and folders, and the splits they mean. Digits at the end ("train2017") do not count."""

NO_IMAGES = {".xml", ".json", ".txt", ".csv", ".tsv", ".yaml", ".yml", ".md", ".py", ".html", ".data", ".names"}
"""Endings of files that are never an image, whatever an annotation says."""


def split_of(words: Iterable[str]) -> str | None:
    """The split that the names of files and folders mean, by the last word that means one.

    Example:
        >>> split_of(["instances_train2017"]), split_of(["valid", "_annotations.coco"]), split_of(["cats"])
        ('train', 'val', None)
    """
    found = [SPLIT_WORDS[word] for text in words for word in re.findall(r"[a-z]+", text.lower()) if word in SPLIT_WORDS]
    return found[-1] if found else None


def alike(name: str) -> str:
    """The form in which two spellings of a file name are equal: composed, without case."""
    return unicodedata.normalize("NFC", name).casefold()


class Listing:
    """All files below a folder, found once; hidden files and folders are not looked at, and links that lead back are not followed.

    Args:
        root: the folder, or a file, which is then the only one listed.

    Attributes:
        root: the folder, resolved.
        files: paths of regular files relative to the root, with ``/``, in order.
        special: files that are none: pipes, sockets, devices, links that lead nowhere.
        folders: that were walked, relative, "" first.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        path = Path(root).resolve()
        self.root, only = (path, None) if path.is_dir() else (path.parent, path.name)
        self.files: list[str] = []
        self.special: list[str] = []
        self.folders: list[str] = []
        if only is not None:
            self.files = [only]
            self.folders = [""]
        else:
            self._walk()
        self.files.sort()
        self.special.sort()
        self.images = [file for file in self.files if PurePosixPath(file).suffix.lower() in SUFFIXES]
        self._by_name: dict[str, list[str]] | None = None
        self._by_stem: dict[str, list[str]] = {}

    def _walk(self) -> None:
        seen, waiting = set(), [""]
        while waiting:
            folder = waiting.pop()
            try:
                found = os.stat(self.root / folder)
                if (found.st_dev, found.st_ino) in seen:
                    continue
                seen.add((found.st_dev, found.st_ino))
                entries = list(os.scandir(self.root / folder))
            except OSError:
                self.special.append(folder)
                continue
            self.folders.append(folder)
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                name = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    if entry.is_dir():
                        waiting.append(name)
                    elif entry.is_file():
                        self.files.append(name)
                    else:
                        self.special.append(name)
                except OSError:  # a link to itself
                    self.special.append(name)
        self.folders.sort()

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Files with one of the endings, in any case."""
        return [file for file in self.files if file.lower().endswith(suffixes)]

    def path(self, file: str) -> Path:
        """Where a listed file lies."""
        return self.root / file

    def images_below(self, folder: str) -> list[str]:
        """Images in a listed folder and the folders in it."""
        return [image for image in self.images if not folder or image.startswith(f"{folder}/")]

    def named(self, name: str) -> list[str]:
        """Images whose name without folders is ``name`` but for case and composition."""
        self._index()
        return self._by_name.get(alike(name), [])

    def with_stem(self, stem: str) -> list[str]:
        """Images whose name without folders and ending is ``stem`` but for case and composition."""
        self._index()
        return self._by_stem.get(alike(stem), [])

    def _index(self) -> None:
        if self._by_name is None:
            by_name, by_stem = defaultdict(list), defaultdict(list)
            for image in self.images:
                path = PurePosixPath(image)
                by_name[alike(path.name)].append(image)
                by_stem[alike(path.stem)].append(image)
            self._by_name, self._by_stem = by_name, by_stem

    def find_folder(self, name: str, *, bases: Iterable[str] = ("",)) -> str | None:
        """The listed folder or file that a path means, also one of another machine or system, of which the end is there.

        A part of the path that names a split is never dropped: ``/home/me/train/images`` is not ``images``.

        Returns:
            Its path relative to the root; None if there is none, or more than one that fits as well.
        """
        known = {alike(folder): folder for folder in self.folders} | {alike(file): file for file in self.files}
        for form in forms_of(name):
            for base in bases:
                joined = os.path.normpath(os.path.join(self.root, base, form))
                relative = os.path.relpath(joined, self.root).replace(os.sep, "/")
                if (found := known.get(alike("" if relative == "." else relative))) is not None:
                    return found
            parts = [part for part in PurePosixPath(form).parts if part not in ("/", "..", ".")]
            for begin in range(len(parts)):
                if split_of(parts[:begin]) and split_of(parts[begin:]) is None:
                    break
                end = alike("/".join(parts[begin:]))
                fits = [path for key, path in known.items() if key == end or key.endswith(f"/{end}")]
                shortest = [path for path in fits if path.count("/") == min(f.count("/") for f in fits)]
                if len(shortest) == 1:
                    return shortest[0]
        return None


def forms_of(name: str) -> list[str]:
    """Ways to read a path: as it is, of Windows, of a URL; without a drive.

    Example:
        >>> forms_of("D:\\\\data\\\\a.png"), forms_of("a%20b.png")
        (['D:\\\\data\\\\a.png', '/data/a.png'], ['a%20b.png', 'a b.png'])
    """
    name = name.strip()
    forms = [name]
    if "\\" in name or re.match(r"[A-Za-z]:", name):
        forms.append(re.sub(r"^[A-Za-z]:", "", name.replace("\\", "/")))
    if "?d=" in name:  # Label Studio: /data/local-files/?d=folder/a.png
        forms.append(unquote(name.split("?d=", 1)[1]))
    elif "%" in name or "://" in name:
        forms.append(unquote(re.sub(r"^\w+://", "", forms[-1])))
    return list(dict.fromkeys(form for form in forms if form))


class AmbiguousImageError(LookupError):
    """Several images fit a name equally well."""


class ImageFinder:
    """Finds the image files that annotations name.

    Args:
        root: folder of the data set; what lies outside of it is not taken.
        places: folders where to look first, such as ``images``; a card may name one outside of the root.
        split: that the annotations are of: images in a folder of another split are not meant.
        outside: take files that the annotations name wherever they are.
    """

    def __init__(
        self, root: Path, places: Iterable[Path] = (), *, split: str | None = None, outside: bool = False
    ) -> None:
        self.root, self.split, self.outside = Path(os.path.abspath(root)), split, outside
        self.places = [os.path.abspath(place) for place in places] or [str(self.root)]
        self.allowed = [os.path.join(place, "") for place in (str(self.root), *self.places)]
        self._folders: dict[str, set[str]] = {}
        self._listing: Listing | None = None

    def find(self, name: object, *, near: str | os.PathLike = "") -> tuple[str, bool]:
        """The file that an annotation means.

        Looked for in this order: as it is named, from the folders of the images and from ``near``; by the longest end of its path
        anywhere in the data set, whatever the case; by its name with another ending of images.

        Args:
            name: what the annotation says.
            near: folder of the annotation.

        Returns:
            The path, and whether it is exactly where the annotation says.

        Raises:
            LookupError: with the reason: no name, not there, outside of the data set, several that fit as well (AmbiguousImageError).
        """
        if not isinstance(name, str) or not name.strip():
            raise LookupError(
                f"the name of its image is {name!r}, which is no text"
                if not isinstance(name, str)
                else "the name of its image is empty"
            )
        if "\0" in name or len(name) > 4096:
            raise LookupError("the name of its image is no path")
        away = None
        for form in forms_of(name):
            for base in dict.fromkeys((*self.places, os.fspath(near) or str(self.root), str(self.root))):
                path = os.path.normpath(os.path.join(base, form))
                if not self._has(path):
                    continue
                if self.outside or path.startswith(tuple(self.allowed)):
                    return path, True
                away = path
        found, ambiguous = self._search(name, os.fspath(near))
        if found:
            return found, False
        if ambiguous:
            raise AmbiguousImageError(f"image {name!r} may be {' or '.join(ambiguous[:3])}: name its folder and ending")
        if away:
            raise LookupError(
                f"image {away} lies outside of the data set's folder {self.root}; `outside: true` in the card allows it"
            )
        raise LookupError(f"image {os.path.join(self.places[0], forms_of(name)[-1])} does not exist")

    def _has(self, path: str) -> bool:
        """Whether a file that may be an image is there; one look at each folder."""
        folder, name = os.path.split(path)
        if os.path.splitext(name)[1].lower() in NO_IMAGES:
            return False
        if folder not in self._folders:
            try:
                self._folders[folder] = {entry.name for entry in os.scandir(folder) if _may_be_file(entry)}
            except (OSError, ValueError):
                self._folders[folder] = set()
        return name in self._folders[folder]

    def _search(self, name: str, near: str) -> tuple[str | None, list[str]]:
        """The image whose path ends most like the name, or those that fit equally well."""
        if self._listing is None:
            self._listing = Listing(self.root)
        for form in reversed(forms_of(name)):
            parts = [part for part in PurePosixPath(form).parts if part not in ("/", ".", "..")]
            if not parts:
                continue
            last = PurePosixPath(parts[-1])
            for same in (
                self._listing.named(last.name),
                [
                    *self._listing.with_stem(last.name),
                    *(self._listing.with_stem(last.stem) if last.suffix.lower() in (*SUFFIXES, *NO_IMAGES) else []),
                ],
            ):
                if fits := self._best(list(dict.fromkeys(same)), parts, near):
                    paths = [str(self._listing.path(fit)) for fit in fits]
                    return (paths[0], []) if len(paths) == 1 else (None, paths)
        return None, []

    def _best(self, candidates: list[str], parts: list[str], near: str) -> list[str]:
        """Of images, those that fit best: by split, by the end of their path, by the folder they are in."""
        wanted = split_of(parts[:-1]) or self.split
        ranked: dict[tuple, list[str]] = defaultdict(list)
        for candidate in candidates:
            path = PurePosixPath(candidate)
            its = split_of(path.parts[:-1])
            if wanted and its and its != wanted:
                continue
            common = 0
            for a, b in zip(reversed(parts[:-1]), reversed(path.parts[:-1])):
                if alike(a) != alike(b):
                    break
                common += 1
            absolute = str(self._listing.path(candidate))
            inside = [
                place
                for place in (*self.places, *([near] if near else []))
                if place != str(self.root) and absolute.startswith(os.path.join(place, ""))
            ]
            ranked[common, its is not None and its == wanted, path.name == parts[-1], len(inside)].append(candidate)
        return ranked[max(ranked)] if ranked else []


def _may_be_file(entry: os.DirEntry) -> bool:
    try:
        return not entry.is_dir()
    except OSError:
        return True


def is_regular(file: str | os.PathLike) -> bool:
    """Whether there is a regular file, not a pipe or a device."""
    try:
        return stat.S_ISREG(os.stat(file).st_mode)
    except (OSError, ValueError):
        return False


def relative(path: str | os.PathLike, root: str | os.PathLike) -> str:
    """A path as a card has it: from the root, with ``/``."""
    return os.path.relpath(path, root).replace(os.sep, "/")
