"""Opens images with Pillow: only in the formats asked for, and without Pillow's own limit of the size."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from PIL import Image

from retina_plugin.data.strangers_files import ImageError

if TYPE_CHECKING:
    from retina_plugin.data.image_headers import ImageFile

OTHER_FORMATS = ("BMP", "GIF", "PPM")
"""Formats whose headers Pillow reads; the others have parsers of their own."""


class _LiftedLimit:
    """Context without Pillow's limit of the size, as long as any thread is inside: INPUT.MAX_IMAGE_PIXELS replaces it.

    The limit is a global variable of Pillow, so there is one instance of this class, with a lock.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.limit: int | None = None

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self.inside += 1

    def __exit__(self, *raised: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                Image.MAX_IMAGE_PIXELS = self.limit


_PILLOWS_LIMIT = _LiftedLimit()


@contextmanager
def open_with_pillow(image: "ImageFile", formats: tuple[str, ...] = OTHER_FORMATS) -> Iterator[Image.Image]:
    """Open an image file with Pillow, whatever its size.

    Args:
        image: the open file.
        formats: that are accepted; some of the others start programs, as EPS does.

    Raises:
        ImageError: it has none of these formats, or is broken, which may show only when it is loaded.
    """
    Image.init()  # registers Pillow's formats, once
    with os.fdopen(os.dup(image.descriptor), "rb") as stream:
        stream.seek(0)
        try:
            with _PILLOWS_LIMIT:
                yield Image.open(stream, formats=formats)
        except ImageError:
            raise
        except Image.UnidentifiedImageError as error:
            raise image.broken("cannot be read: it is not an image of a supported format") from error
        except Exception as error:  # Pillow raises nearly anything for broken data
            raise image.broken(f"cannot be read: {error or type(error).__name__}") from error
