"""Lists image files, and reads their headers to tell their size and whether they can be used."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

from retina_plugin.data.image_headers import MAX_IMAGE_PIXELS, ImageFile, ImageHeader
from retina_plugin.data.strangers_files import ImageError, ImageNotFoundError

__all__ = [
    "MAX_IMAGE_PIXELS",
    "SUFFIXES",
    "ImageError",
    "ImageHeader",
    "ImageNotFoundError",
    "defect_of",
    "list_images",
    "look_at",
    "read_header",
    "size_of",
]

SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".bmp",
    ".dib",
    ".webp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
}
"""Suffixes of image files, in lower case."""

PART = 256
"""Files that a thread reads in one task."""

SLOW, WAITING = 8, 16
"""A disk is slow if the wall time exceeds ``SLOW`` times the processor time; then ``WAITING`` threads read."""


def read_header(file: str | os.PathLike, *, max_pixels: int = MAX_IMAGE_PIXELS) -> ImageHeader:
    """Read the header of an image file; no pixel is decoded.

    Args:
        file: path.
        max_pixels: INPUT.MAX_IMAGE_PIXELS; an image with more is refused.

    Raises:
        ImageError: the file cannot be used; contains the reason.
        ImageNotFoundError: it does not exist.
    """
    with ImageFile(file, max_pixels=max_pixels) as image:
        return image.header


def size_of(file: str | os.PathLike) -> tuple[int, int]:
    """Return the (height, width) of an image as displayed, pixels.

    Raises:
        ImageError: see :func:`read_header`.
    """
    header = read_header(file)
    return header.height, header.width


def list_images(folder: Path) -> list[Path]:
    """Return everything below a folder that has the name of an image, sorted.

    Links to folders are followed, each folder once. What is not a file (a FIFO, a dangling link) is listed as well, so
    that reading it reports it; a folder is not.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        found += [Path(place, name) for name in names if os.path.splitext(name)[1].lower() in SUFFIXES]
    return sorted(found)


def defect_of(file: str | os.PathLike, *, max_pixels: int = MAX_IMAGE_PIXELS) -> str | None:
    """Return why an image file cannot be used, judging by its header and its end; None if it can."""
    look = _look(file, max_pixels)
    return look if isinstance(look, str) else None


def look_at(
    files: Sequence[str | os.PathLike],
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> list[ImageHeader | str]:
    """Read the header of each file; no pixel is decoded.

    Args:
        files: paths.
        workers: threads. None starts with one and continues with ``WAITING`` if the disk turns out to be slow (a
            network disk). On a fast disk one thread is the fastest, because Python itself takes most of the time.
        progress: called with the number of files read since the last call, like tqdm's ``update``.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.

    Returns:
        In the order of ``files``, each header, or the reason why the file cannot be used.
    """

    def look(part: Sequence[str | os.PathLike]) -> list[ImageHeader | str]:
        """Read one part of the files."""
        return [_look(file, max_pixels) for file in part]

    results: list[ImageHeader | str] = []
    parts = (files[start : start + PART] for start in range(0, len(files), PART))
    if workers is None and (part := next(parts, None)) is not None:
        wall, busy = time.perf_counter(), time.thread_time()
        results += look(part)
        wall, busy = time.perf_counter() - wall, time.thread_time() - busy
        workers = WAITING if wall > SLOW * busy else 1
        if progress:
            progress(len(part))
    with ThreadPoolExecutor(workers) if workers and workers > 1 else nullcontext() as pool:
        for found in (pool.map if pool else map)(look, parts):
            results += found
            if progress:
                progress(len(found))
    return results


def _look(file: str | os.PathLike, max_pixels: int) -> ImageHeader | str:
    try:
        with ImageFile(file, max_pixels=max_pixels) as image:
            image.check_end()
            return image.header
    except ImageError as error:
        return error.reason
