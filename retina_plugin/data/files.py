"""Lists the files in a folder, and finds the images that annotations name."""

import os
import re
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
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
"""Split that a word in the name of a file or folder stands for; digits at the end ("train2017") are ignored."""

NO_IMAGES = {".xml", ".json", ".txt", ".csv", ".tsv", ".yaml", ".yml", ".md", ".py", ".html", ".data", ".names"}
"""Suffixes of files that are never images, even if an annotation names one."""


def split_of(words: Iterable[str]) -> str | None:
    """Return the split that names of files and folders stand for, by the last word that stands for one.

    Example:
        >>> split_of(["instances_train2017"]), split_of(["valid", "_annotations.coco"]), split_of(["cats"])
        ('train', 'val', None)
    """
    found = [SPLIT_WORDS[word] for text in words for word in re.findall(r"[a-z]+", text.lower()) if word in SPLIT_WORDS]
    return found[-1] if found else None


def alike(name: str) -> str:
    """Normalise a file name for comparison: composed (NFC), without case."""
    return unicodedata.normalize("NFC", name).casefold()


class Listing:
    """A listing of all files below a folder, made once; hidden files are skipped, and no folder is listed twice.

    Args:
        root: the folder, or a file, which is then the only one listed.

    Attributes:
        root: the folder, resolved.
        files: paths of regular files relative to the root, with ``/``, sorted.
        special: paths that are not files: pipes, sockets, devices, dangling links; and folders that cannot be read.
        folders: paths of the folders that were listed, relative to the root, "" first.
        images: those of ``files`` with the suffix of an image.
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
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}

    def _walk(self) -> None:
        seen: set[tuple[int, int]] = set()
        waiting = [""]
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
        """Return the files with one of the suffixes, in upper or lower case."""
        return [file for file in self.files if file.lower().endswith(suffixes)]

    def path(self, file: str) -> Path:
        """Return the full path of a listed file."""
        return self.root / file

    def images_below(self, folder: str) -> list[str]:
        """Return the images in a listed folder and its subfolders."""
        return [image for image in self.images if not folder or image.startswith(f"{folder}/")]

    def named(self, name: str) -> list[str]:
        """Return the images whose name without folders is ``name``, ignoring case and composition."""
        self._index()
        return self._by_name.get(alike(name), [])

    def with_stem(self, stem: str) -> list[str]:
        """Return the images whose name without folders and suffix is ``stem``, ignoring case and composition."""
        self._index()
        return self._by_stem.get(alike(stem), [])

    def _index(self) -> None:
        """Fill the indices of the images on first use."""
        if self._by_name:
            return
        for image in self.images:
            path = PurePosixPath(image)
            self._by_name.setdefault(alike(path.name), []).append(image)
            self._by_stem.setdefault(alike(path.stem), []).append(image)

    def find_folder(self, name: str, *, bases: Iterable[str] = ("",)) -> str | None:
        """Find the listed folder or file that a path names, possibly a path of a different machine or operating system.

        A path that does not exist matches by its end. A part of it that names a split is never dropped:
        ``/home/me/train/images`` does not match ``images``.

        Args:
            name: the path.
            bases: folders, relative to the root, that ``name`` may be relative to.

        Returns:
            Its path relative to the root; None if nothing matches, or several match equally well.
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
    r"""Return the ways to read a path: as it is, as one of Windows without its drive, as a URL.

    Example:
        >>> forms_of("D:\\data\\a.png"), forms_of("a%20b.png")
        (['D:\\data\\a.png', '/data/a.png'], ['a%20b.png', 'a b.png'])
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
    """Raised if several images match a name equally well."""


class ImageFinder:
    """Finds the image files that annotations name.

    Args:
        root: folder of the dataset; files outside of it are refused.
        places: folders to search first, such as ``images``; a card may name one outside of the root.
        split: of the annotations; images in a folder of a different split do not match.
        outside: accept the files that annotations name wherever they are.
    """

    def __init__(
        self, root: Path, places: Iterable[Path] = (), *, split: str | None = None, outside: bool = False
    ) -> None:
        self.root, self.split, self.outside = Path(os.path.abspath(root)), split, outside
        self.places = [os.path.abspath(place) for place in places] or [str(self.root)]
        self.allowed = [os.path.join(place, "") for place in (str(self.root), *self.places)]
        self._folders: dict[str, set[str]] = {}

    @cached_property
    def _listing(self) -> Listing:
        return Listing(self.root)

    def find(self, name: object, *, near: str | os.PathLike = "") -> tuple[str, bool]:
        """Find the file that an annotation names.

        The search order is: the path as given, relative to the image folders, ``near`` and the root; then the longest
        match with the end of a path anywhere in the dataset, ignoring case; then the same with a different suffix.

        Args:
            name: the path in the annotation, of any type.
            near: folder of the annotation.

        Returns:
            The path, and whether the file is exactly where the annotation says.

        Raises:
            LookupError: there is no name, or the file does not exist or is outside of the dataset; contains the reason.
            AmbiguousImageError: several images match equally well.
        """
        if not isinstance(name, str):
            raise LookupError(f"the name of its image must be text, got {name!r}")
        if not name.strip():
            raise LookupError("the name of its image is empty")
        if "\0" in name or len(name) > 4096:
            raise LookupError("the name of its image is not a path: it has a zero byte or more than 4096 characters")
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
            raise AmbiguousImageError(f"image {name!r} may be {' or '.join(ambiguous[:3])}: name its folder and suffix")
        if away:
            raise LookupError(
                f"image {away} is outside of the dataset's folder {self.root}; `outside: true` in the card allows it"
            )
        raise LookupError(f"image {os.path.join(self.places[0], forms_of(name)[-1])} does not exist")

    def _has(self, path: str) -> bool:
        """Return whether a file that may be an image exists; each folder is read once."""
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
        """Return the image whose path matches the end of the name best, or all that match equally well."""
        for form in reversed(forms_of(name)):
            parts = [part for part in PurePosixPath(form).parts if part not in ("/", ".", "..")]
            if not parts:
                continue
            last = PurePosixPath(parts[-1])
            other_suffix = self._listing.with_stem(last.name)
            if last.suffix.lower() in (*SUFFIXES, *NO_IMAGES):
                other_suffix = other_suffix + self._listing.with_stem(last.stem)
            for same in (self._listing.named(last.name), other_suffix):
                if fits := self._best(list(dict.fromkeys(same)), parts, near):
                    paths = [str(self._listing.path(fit)) for fit in fits]
                    return (paths[0], []) if len(paths) == 1 else (None, paths)
        return None, []

    def _best(self, candidates: list[str], parts: list[str], near: str) -> list[str]:
        """Return the candidates that match best: by the end of their path, by split, by name, by folder."""
        wanted = split_of(parts[:-1]) or self.split
        ranked: dict[tuple, list[str]] = defaultdict(list)
        for candidate in candidates:
            path = PurePosixPath(candidate)
            its = split_of(path.parts[:-1])
            if wanted and its and its != wanted:
                continue
            common = 0
            for a, b in zip(reversed(parts[:-1]), reversed(path.parts[:-1]), strict=False):
                if alike(a) != alike(b):
                    break
                common += 1
            absolute = str(self._listing.path(candidate))
            places = [place for place in (*self.places, near) if place and place != str(self.root)]
            inside = [place for place in places if absolute.startswith(os.path.join(place, ""))]
            ranked[common, its is not None and its == wanted, path.name == parts[-1], len(inside)].append(candidate)
        return ranked[max(ranked)] if ranked else []


def _may_be_file(entry: os.DirEntry) -> bool:
    try:
        return not entry.is_dir()
    except OSError:
        return True


def is_regular(file: str | os.PathLike) -> bool:
    """Return whether a path is a regular file, not a pipe or a device."""
    try:
        return stat.S_ISREG(os.stat(file).st_mode)
    except (OSError, ValueError):
        return False


def relative(path: str | os.PathLike, root: str | os.PathLike) -> str:
    """Return a path as cards have it: relative to the root, with ``/``."""
    return os.path.relpath(path, root).replace(os.sep, "/")
