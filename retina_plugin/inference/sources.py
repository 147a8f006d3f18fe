"""Where images to predict on come from: files, folders, patterns, lists, videos and cameras."""

import glob
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from retina_plugin.data.image_files import SUFFIXES, list_images

VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"}
"""Suffixes of video files, in lower case."""

STREAMS = ("rtsp://", "rtmp://", "http://", "https://")
"""How the address of a network camera begins."""

STDIN = "-"
"""Source that stands for paths on the standard input, one per line."""

CAMERA = "camera:"
"""Prefix of a camera: camera:0 is the first."""


@dataclass(frozen=True)
class Sources:
    """What the sources of a command line stand for.

    Attributes:
        images: paths of image files, each once, in order.
        videos: paths of video files, addresses, and cameras as "camera:0".
    """

    images: tuple[str, ...]
    videos: tuple[str, ...]


def find_sources(words: Sequence[str | os.PathLike]) -> Sources:
    """Expand sources to image files and videos.

    Args:
        words: each an image file, a folder (searched with its subfolders), a pattern such as ``"photos/*.jpg"`` or
            ``"photos/**/*.png"``, a ``.txt`` file with one path per line, a video file, ``camera:0``, the address of a
            network camera, or ``-`` for paths on the standard input. Relative paths in a list are relative to the list,
            or to the working directory.

    Raises:
        FileNotFoundError: a source does not exist, a pattern matches nothing, or a folder has no images.
        ValueError: a file is neither an image nor a video nor a list, or a list names nothing.
    """
    images: dict[str, None] = {}
    videos: dict[str, None] = {}
    for word in words:
        for path in _expand(str(word)):
            is_video = path.startswith((CAMERA, *STREAMS)) or Path(path).suffix.lower() in VIDEO_SUFFIXES
            (videos if is_video else images)[path] = None
    return Sources(tuple(images), tuple(videos))


def _expand(word: str) -> Iterable[str]:
    """Return the images and videos that one source stands for."""
    if word == STDIN:
        return _listed(sys.stdin.read().splitlines(), Path(), "the standard input")
    if word.startswith(STREAMS):
        return [word]
    if word.startswith(CAMERA):
        if not word.removeprefix(CAMERA).isdecimal():
            raise ValueError(f"{word} is not a camera; the first one is camera:0")
        return [word]
    path = Path(word)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists() and not path.is_symlink():
        return _matching(word)
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return _listed(path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), path.parent, word)
    if suffix in SUFFIXES or suffix in VIDEO_SUFFIXES:
        return [word]
    raise ValueError(
        f"{word} is neither an image ({', '.join(sorted(SUFFIXES))}) nor a video ({', '.join(sorted(VIDEO_SUFFIXES))}) "
        "nor a list of paths (.txt)"
    )


def _in_folder(folder: Path) -> list[str]:
    """Return the images and videos below a folder."""
    found = [str(file) for file in list_images(folder)]
    found += sorted(str(file) for file in folder.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
    if not found:
        raise FileNotFoundError(f"folder {folder} has no images")
    return found


def _matching(pattern: str) -> list[str]:
    """Return what a pattern matches that can be an image or a video, sorted."""
    if not glob.has_magic(pattern):
        raise FileNotFoundError(f"{pattern} does not exist (looked in {Path.cwd()})")
    suffixes = SUFFIXES | VIDEO_SUFFIXES
    matches = sorted(glob.glob(pattern, recursive=True))
    found = [match for match in matches if Path(match).suffix.lower() in suffixes and not Path(match).is_dir()]
    if not found:
        what = f"{len(matches)} files that are not images" if matches else "nothing"
        raise FileNotFoundError(f"{pattern} matches {what} (looked in {Path.cwd()})")
    return found


def _listed(lines: Sequence[str], folder: Path, name: str) -> list[str]:
    """Return the paths in the lines of a list; a path that does not exist is reported when it is read."""
    found = []
    for line in filter(None, (line.strip() for line in lines)):
        beside = folder / line
        found.append(str(beside) if beside.exists() or not Path(line).exists() else line)
    if not found:
        raise ValueError(f"{name} names no images")
    return found
