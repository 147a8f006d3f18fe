"""Image files: which there are, how large they are, and whether they can be used."""

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
"""Of files that count as images, in lower case."""

PART = 256
"""Files that a thread looks at in one go."""

SLOW, WAITING = 8, 16
"""A disk is slow that is waited for as many times longer than the processor works, and so many threads wait for it together."""


def read_header(file: str | os.PathLike, *, max_pixels: int = MAX_IMAGE_PIXELS) -> ImageHeader:
    """What an image file says about itself; no pixel is decoded.

    Args:
        file: path.
        max_pixels: INPUT.MAX_IMAGE_PIXELS; an image of more is refused.

    Raises:
        ImageError: the file cannot be used; says why. :class:`ImageNotFoundError`: there is none.
    """
    with ImageFile(file, max_pixels=max_pixels) as image:
        return image.header


def size_of(file: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of an image as displayed, see :func:`read_header`.

    Raises:
        ImageError: as there.
    """
    header = read_header(file)
    return header.height, header.width


def list_images(folder: Path) -> list[Path]:
    """Everything below a folder that has the name of an image, in order.

    Links to folders are followed, once. What is no file (a FIFO, a link to nothing) is listed, too, so that it is
    named by who looks at it; a folder is not.
    """
    found, seen = [], set()
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
    """What keeps an image file from being used, as far as its header and its end show; None if nothing does."""
    look = _look(file, max_pixels)
    return look if isinstance(look, str) else None


def look_at(
    files: Sequence[str | os.PathLike],
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> list[ImageHeader | str]:
    """The header of each file, in order, or why it cannot be used; no pixel is decoded.

    Args:
        files: paths.
        workers: threads; None: one where the first files show that the processor is busy, else (a network disk) ``WAITING`` of them.
            More than one are slower than one where no disk is waited for: most of the time Python itself is at work.
        progress: called with the number of files that were looked at since the last call, as tqdm's ``update`` is.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.
    """

    def look(part: Sequence[str | os.PathLike]) -> list[ImageHeader | str]:
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
