"""Image files opened for reading, with their headers, from their first and last bytes; no pixel is decoded."""

import os
from types import TracebackType

from retina_plugin.data import tiff
from retina_plugin.data.header_parsers import ImageHeader, orientation_of, parse
from retina_plugin.data.strangers_files import ImageError, open_regular, read_at

__all__ = [
    "BLOCK",
    "MAX_IMAGE_PIXELS",
    "ImageFile",
    "ImageHeader",
    "orientation_of",
    "too_large",
]

MAX_IMAGE_PIXELS = 178_956_970
"""Default of INPUT.MAX_IMAGE_PIXELS: where Pillow suspects a decompression bomb, 512 MiB as RGB."""

BLOCK = 4096
"""Bytes that are read at once: at the start, at the end, and wherever else a header continues."""


class ImageFile:
    """An image file opened for reading, with its header and, for some formats, the location of the pixels.

    Args:
        file: path.
        max_pixels: an image with more pixels is refused.

    Attributes:
        header: see :class:`ImageHeader`.
        tags: of a TIFF, else empty.

    Raises:
        ImageError: it is not a regular file, not an image, or too large.
        ImageNotFoundError: it does not exist.
    """

    def __init__(self, file: str | os.PathLike, *, max_pixels: int = MAX_IMAGE_PIXELS) -> None:
        self.file = os.fspath(file)
        self.descriptor, self.size = open_regular(self.file)
        self.head = b""
        try:
            self.head = self.read(0, BLOCK)
            if not self.head:
                raise ImageError(self.file, "cannot be read: it is empty")
            self.header = self._read_header()
            self._check_size(max_pixels)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "ImageFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)

    def read(self, offset: int, count: int) -> bytes:
        """Read ``count`` bytes from ``offset`` on, or fewer if the file ends before.

        Raises:
            ImageError: the disk reports an error.
        """
        if offset + count <= len(self.head):
            return self.head[offset : offset + count]
        if offset >= self.size:
            return b""
        count = min(count, self.size - offset)
        parts = []
        try:
            while count > 0 and (part := read_at(self.descriptor, count, offset)):  # returns at most 2 GiB per call
                parts.append(part)
                offset, count = offset + len(part), count - len(part)
        except OSError as error:
            raise self.broken(f"cannot be read: {error.strerror}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def broken(self, what: str) -> ImageError:
        """Return the error for this file; ``what`` continues the sentence "FILE ..."."""
        return ImageError(self.file, what)

    def check_end(self) -> None:
        """Check whether the file is complete, by its size and its last bytes.

        Raises:
            ImageError: it is truncated.
        """
        form = self.header.format
        if form == "JPEG":
            self.jpeg_end()
        elif form == "PNG" and b"IEND" not in self.tail():
            raise self.broken("is truncated: the PNG has no end")
        elif form == "WEBP" and 8 + int.from_bytes(self.head[4:8], "little") > self.size:
            raise self.broken("is truncated: it is shorter than the header of the WebP states")
        elif form == "TIFF":
            try:
                end = max(offset + count for offset, count in tiff.pieces_of(self.tags))
            except tiff.TiffError as error:
                raise self.broken(f"cannot be read: {error}") from error
            if end > self.size:
                raise self.broken("is truncated: the pixels of the TIFF extend beyond its end")
        elif self._least_size() > self.size:
            raise self.broken(f"is truncated: the {form} has fewer bytes than its pixels take")

    def _least_size(self) -> int:
        """Return the size in bytes that a file with uncompressed pixels must have; 0 if they are compressed."""
        header, head = self.header, self.head
        if head[:2] == b"BM" and len(head) >= 34 and head[14] >= 40 and head[30:34] == bytes(4):
            bits = int.from_bytes(head[28:30], "little")
            return int.from_bytes(head[10:14], "little") + (header.width * bits + 31) // 32 * 4 * header.height
        if head[:2] in (b"P5", b"P6"):
            return header.height * header.width * header.channels * max(1, header.bits // 8)
        return 0

    def tail(self) -> bytes:
        """Return the last ``BLOCK`` bytes."""
        return self.read(max(0, self.size - BLOCK), BLOCK)

    def jpeg_end(self) -> int:
        """Return the offset after the end marker of a JPEG; what follows (a video, zeros) is not part of the image.

        In compressed data, FF is never followed by D9, so the first end marker after the start of the data is the right
        one; that of a thumbnail in the EXIF data comes before.

        Raises:
            ImageError: there is no end marker.
        """
        last = self.read(max(0, self.size - 2), 2)
        if last == b"\xff\xd9" and self.size - 2 >= self._scan:
            return self.size
        offset, before = self._scan, b""
        most = offset + (1 << 20) + 8 * self.header.height * self.header.width * self.header.channels
        while offset < min(self.size, most):
            block = before[-1:] + self.read(offset, 1 << 20)
            if (found := block.find(b"\xff\xd9")) >= 0:
                return offset - len(before[-1:]) + found + 2
            offset, before = offset + len(block) - len(before[-1:]), block
        raise self.broken("is truncated: the JPEG has no end")

    def whole(self) -> bytes:
        """Read the whole file.

        Raises:
            ImageError: it is larger than such an image can be, plus a gigabyte for other data.
        """
        if self.size > (1 << 30) + 16 * self.header.height * self.header.width * self.header.channels:
            raise self.broken(f"cannot be read: it has {self.size:,} bytes, far more than its pixels take")
        return self.read(0, self.size)

    def png_bytes(self) -> bytes:
        """Read a PNG up to its end marker.

        Raises:
            ImageError: a chunk claims to extend beyond the end of the file; OpenCV would allocate up to 4 GiB for it.
        """
        data, position = self.whole(), 8
        while position + 12 <= len(data):
            end = position + 12 + int.from_bytes(data[position : position + 4], "big")
            if end > len(data):
                break
            if data[position + 4 : position + 8] == b"IEND":
                return data[:end]
            position = end
        raise self.broken("is truncated: the PNG has no end")

    def _read_header(self) -> ImageHeader:
        parsed = parse(self)
        self.tags, self._scan = parsed.tags, parsed.scan
        return parsed.header

    def _check_size(self, max_pixels: int) -> None:
        """Refuse an image without pixels or with too many.

        Raises:
            ImageError: with its size.
        """
        header = self.header
        if min(header.height, header.width, header.channels) < 1:
            size = f"{header.width}x{header.height} pixels with {header.channels} channels"
            raise self.broken(f"cannot be read: its header states {size}")
        if reason := too_large(header, max_pixels):
            raise self.broken(reason)


def too_large(header: ImageHeader, max_pixels: int) -> str | None:
    """Return why an image has too many pixels, or None if it does not."""
    pixels = header.height * header.width
    if pixels <= max_pixels:
        return None
    return f"is {header.width}x{header.height}, {pixels:,} pixels; INPUT.MAX_IMAGE_PIXELS allows {max_pixels:,}"
