"""What an image file says about itself, read from its first and last bytes; no pixel is decoded."""

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from PIL import Image

from retina_plugin.data import tiff
from retina_plugin.data.strangers_files import ImageError, open_regular, read_at, stranger

MAX_IMAGE_PIXELS = 178_956_970
"""Of an image, unless INPUT.MAX_IMAGE_PIXELS says otherwise: where Pillow suspects a decompression bomb, 512 MiB as RGB."""

BLOCK = 4096
"""Bytes that are read at the beginning, at the end, and wherever else a header goes on."""

OTHER_FORMATS = ("BMP", "GIF", "PPM")
"""Whose headers are left to Pillow."""


class _LiftedLimit:
    """Without Pillow's own limit of the size while any thread is inside: INPUT.MAX_IMAGE_PIXELS was asked before."""

    def __init__(self) -> None:
        self.lock, self.inside, self.limit = threading.Lock(), 0, None

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


@dataclass(frozen=True)
class ImageHeader:
    """What an image is.

    Args:
        height, width: in pixels as displayed, that is, turned as EXIF says.
        orientation: of EXIF, 1..8; what EXIF does not define is 1.
        format: as Pillow names it: "JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM".
        channels: bands of a pixel, alpha included; 3 with a palette.
        bits: of a channel.
        is_float: whether the values are floats.
    """

    height: int
    width: int
    orientation: int
    format: str
    channels: int
    bits: int
    is_float: bool = False


class ImageFile:
    """An image file that is open for reading, with its header and, for some formats, where the pixels are.

    Args:
        file: path.
        max_pixels: an image of more is refused.

    Attributes:
        header: see :class:`ImageHeader`.
        tags: of a TIFF, else empty.

    Raises:
        ImageError: it is no regular file, no image, or too large; :class:`ImageNotFoundError` if there is none.
    """

    def __init__(self, file: str | os.PathLike, *, max_pixels: int = MAX_IMAGE_PIXELS) -> None:
        self.file, self.tags, self._scan = os.fspath(file), {}, 0
        self.descriptor, self.size = open_regular(self.file)
        self.head = b""
        try:
            self.head = self.read(0, BLOCK)
            if not self.head:
                raise ImageError(self.file, "cannot be read: it is empty")
            self.header = self._read_header()
            _refuse_size(self.file, self.header, max_pixels)
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
        """``count`` bytes from ``offset`` on, fewer where the file ends.

        Raises:
            ImageError: the disk does not give them.
        """
        if offset + count <= len(self.head):
            return self.head[offset : offset + count]
        if offset >= self.size:
            return b""
        count = min(count, self.size - offset)
        parts = []
        try:
            while count > 0 and (part := read_at(self.descriptor, count, offset)):  # at most 2 GiB come at once
                parts.append(part)
                offset, count = offset + len(part), count - len(part)
        except OSError as error:
            raise self.broken(f"cannot be read: {error.strerror}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def broken(self, what: str) -> ImageError:
        """The error that says so of this file."""
        return ImageError(self.file, what)

    def check_end(self) -> None:
        """Look whether the file is whole, as far as its last bytes show.

        Raises:
            ImageError: it is cut off.
        """
        form = self.header.format
        if form == "JPEG":
            self.jpeg_end()
        elif form == "PNG" and b"IEND" not in self.tail():
            raise self.broken("is truncated: the PNG has no end")
        elif form == "WEBP" and 8 + int.from_bytes(self.head[4:8], "little") > self.size:
            raise self.broken("is truncated: the WebP says that it is longer")
        elif form == "TIFF":
            try:
                end = max(offset + count for offset, count in tiff.pieces_of(self.tags))
            except tiff.TiffError as error:
                raise self.broken(f"cannot be read: {error}") from error
            if end > self.size:
                raise self.broken("is truncated: the TIFF says that its pixels go on")
        elif self._least_size() > self.size:
            raise self.broken(f"is truncated: the {form} has fewer bytes than pixels")

    def _least_size(self) -> int:
        """Bytes of a file whose pixels are not compressed; 0 if they are."""
        header, head = self.header, self.head
        if head[:2] == b"BM" and len(head) >= 34 and head[14] >= 40 and head[30:34] == bytes(4):
            bits = int.from_bytes(head[28:30], "little")
            return int.from_bytes(head[10:14], "little") + (header.width * bits + 31) // 32 * 4 * header.height
        if head[:2] in (b"P5", b"P6"):
            return header.height * header.width * header.channels * max(1, header.bits // 8)
        return 0

    def tail(self) -> bytes:
        """The last bytes."""
        return self.read(max(0, self.size - BLOCK), BLOCK)

    def jpeg_end(self) -> int:
        """Offset after the end mark of a JPEG; what follows it, a film or zeros, is not of the image.

        In compressed data FF is never followed by D9, so the first end mark after its beginning counts; the one of a thumbnail
        in the EXIF data stands before it.

        Raises:
            ImageError: there is no end mark.
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
        """All bytes.

        Raises:
            ImageError: they are more than such an image can have, with a gigabyte of other things.
        """
        if self.size > (1 << 30) + 16 * self.header.height * self.header.width * self.header.channels:
            raise self.broken(f"cannot be read: it has {self.size:,} bytes, far more than its pixels take")
        return self.read(0, self.size)

    def png_bytes(self) -> bytes:
        """All of a PNG up to its end mark.

        Raises:
            ImageError: a chunk says that it is longer than the file; OpenCV would make room for it, up to 4 GiB.
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
        head = self.head
        if head[:2] == b"\xff\xd8":
            return self._jpeg()
        if head[:8] == b"\x89PNG\r\n\x1a\n":
            return self._png()
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return self._webp()
        if tiff.byte_order(head):
            return self._tiff()
        return self._other()

    def _jpeg(self) -> ImageHeader:
        """Source: ITU-T T.81, annex B (markers); Exif 2.3, section 4.5 (APP1)."""
        position, orientation, frame = 2, 0, None
        while True:
            mark = self.read(position, 4)
            if len(mark) < 4:
                raise self.broken("is truncated: the JPEG ends in its header")
            if mark[0] != 0xFF:  # readers skip what stands between two segments
                skipped = self.read(position, 1 << 16).find(b"\xff")
                if skipped < 0:
                    raise self.broken("cannot be read: the header of the JPEG is broken")
                position += skipped
                continue
            code, length = mark[1], mark[2] << 8 | mark[3]
            if code == 0xFF or code == 0 or code == 1 or 0xD0 <= code <= 0xD8:
                position += 1 if code == 0xFF else 2
                continue
            if code == 0xD9:
                raise self.broken("cannot be read: the JPEG has no picture")
            if code == 0xDA:
                break
            if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
                frame = frame or self.read(position + 4, 6)
            elif code == 0xE1 and not orientation and self.read(position + 4, 6) == b"Exif\0\0":
                orientation = orientation_of(self.read(position + 10, max(0, length - 8)))
            position += 2 + max(2, length)
        self._scan = position
        if frame is None or len(frame) < 6:
            raise self.broken("cannot be read: the JPEG says no size")
        bits, height, width, channels = struct.unpack(">BHHB", frame)
        if bits != 8:
            raise self.broken(f"cannot be read: it is a JPEG of {bits} bits")
        return _header(height, width, orientation or 1, "JPEG", channels, bits)

    def _png(self) -> ImageHeader:
        """Source: PNG specification, third edition, 11.2.1 (IHDR), 11.3.5.4 (eXIf)."""
        length, kind, width, height, bits, colour = struct.unpack(">I4sIIBB", self.head[8:26].ljust(18, b"\0"))
        if kind != b"IHDR" or length != 13 or colour not in (0, 2, 3, 4, 6):
            raise self.broken("cannot be read: the PNG has no header")
        position, orientation = 33, 1
        while len(mark := self.read(position, 8)) == 8 and mark[4:] not in (b"IDAT", b"IEND"):
            length = int.from_bytes(mark[:4], "big")
            if mark[4:] == b"eXIf":
                orientation = orientation_of(self.read(position + 8, min(length, 1 << 20)))
                break
            position += 12 + length
            if position > self.size:
                raise self.broken("is truncated: the PNG has no end")
        else:
            orientation = self._late_exif()
        bits, channels = (8, 3) if colour == 3 else (bits, {0: 1, 2: 3, 4: 2, 6: 4}[colour])
        return _header(height, width, orientation, "PNG", channels, bits)

    def _late_exif(self) -> int:
        """Orientation of an eXIf chunk after the pixels; a checksum tells it from pixels that look like one."""
        tail = self.tail()
        at = tail.rfind(b"eXIf")
        if at < 4:
            return 1
        end = at + 4 + int.from_bytes(tail[at - 4 : at], "big")
        whole = zlib.crc32(tail[at:end]).to_bytes(4, "big") == tail[end : end + 4]
        return orientation_of(tail[at + 4 : end]) if whole else 1

    def _webp(self) -> ImageHeader:
        """Source: RFC 9649, section 2 (container), RFC 6386 section 9.1 (VP8)."""
        kind, data, orientation, channels = self.head[12:16], self.head[20:30].ljust(10, b"\0"), 1, 3
        if kind == b"VP8X":
            width, height = (1 + int.from_bytes(data[i : i + 3], "little") for i in (4, 7))
            channels += data[0] >> 4 & 1
            orientation = self._webp_exif() if data[0] & 8 else 1
        elif kind == b"VP8L" and data[0] == 0x2F:
            packed = int.from_bytes(data[1:5], "little")
            width, height, channels = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF), 3 + (packed >> 28 & 1)
        elif kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
            width, height = (int.from_bytes(data[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        else:
            raise self.broken("cannot be read: the WebP has no picture")
        return _header(height, width, orientation, "WEBP", channels, 8)

    def _webp_exif(self) -> int:
        position = 12
        for _ in range(10_000):  # more parts than any animation has that is an image of a data set
            mark = self.read(position, 8)
            if len(mark) < 8:
                break
            length = int.from_bytes(mark[4:], "little")
            if mark[:4] == b"EXIF":
                data = self.read(position + 8, min(length, 1 << 20))
                return orientation_of(data.removeprefix(b"Exif\0\0"))
            position += 8 + length + length % 2
        return 1

    def _tiff(self) -> ImageHeader:
        try:
            self.tags = tags = tiff.tags_of(self.read)
            tiff.pieces_of(tags)
        except tiff.TiffError as error:
            raise self.broken(f"cannot be read: {error}") from error
        height, width, channels, bits = (
            tiff.first(tags, tag, default)
            for tag, default in ((tiff.HEIGHT, 0), (tiff.WIDTH, 0), (tiff.CHANNELS, 1), (tiff.BITS, 1))
        )
        channels = 3 if tiff.first(tags, tiff.PHOTOMETRIC, 1) == 3 else channels
        is_float = tiff.first(tags, tiff.SAMPLE_FORMAT, tiff.UINT) == tiff.FLOAT
        return _header(height, width, _orientation(tags), "TIFF", channels, bits, is_float)

    def _other(self) -> ImageHeader:
        if what := stranger(self.head):
            raise self.broken(f"cannot be read: it is {what}")
        with open_with_pillow(self) as image:
            width, height = image.size
            mode, form = image.mode, image.format
        channels = {"1": 1, "L": 1, "I": 1, "I;16": 1, "LA": 2, "RGBA": 4}.get(mode, 3)
        return _header(
            height, width, 1, form, channels, {"1": 1, "I": 16, "I;16": 16, "F": 32}.get(mode, 8), mode == "F"
        )


@contextmanager
def open_with_pillow(image: ImageFile, formats: tuple[str, ...] = OTHER_FORMATS) -> Iterator[Image.Image]:
    """Pillow's image of a file, of one of a few formats (others may start programs, as EPS does), whatever its size.

    Raises:
        ImageError: it is none of those, or broken, which may show only when it is loaded.
    """
    Image.init()  # its formats, once
    with os.fdopen(os.dup(image.descriptor), "rb") as stream:
        stream.seek(0)
        try:
            with _PILLOWS_LIMIT:
                yield Image.open(stream, formats=formats)
        except ImageError:
            raise
        except Image.UnidentifiedImageError as error:
            raise image.broken("cannot be read: it is no image of a kind that is known") from error
        except Exception as error:  # Pillow raises nearly anything for broken data
            raise image.broken(f"cannot be read: {error or type(error).__name__}") from error


def orientation_of(exif: bytes) -> int:
    """Orientation 1..8 in EXIF data; 1 if there is none or it makes no sense."""
    try:
        return _orientation(
            tiff.tags_of(lambda offset, count: exif[offset : offset + count], frozenset([tiff.ORIENTATION]))
        )
    except tiff.TiffError:
        return 1


def _orientation(tags: dict[int, tiff.Tag]) -> int:
    """Exif defines one SHORT of 1..8; all else is 1."""
    kind, values = tags.get(tiff.ORIENTATION, (0, ()))
    return values[0] if kind == 3 and len(values) == 1 and 1 <= values[0] <= 8 else 1


def _header(
    height: int, width: int, orientation: int, form: str, channels: int, bits: int, is_float: bool = False
) -> ImageHeader:
    return ImageHeader(
        *((width, height) if orientation >= 5 else (height, width)), orientation, form, channels, bits, is_float
    )


def _refuse_size(file: str, header: ImageHeader, max_pixels: int) -> None:
    if header.height < 1 or header.width < 1 or header.channels < 1:
        raise ImageError(
            file,
            f"cannot be read: it says that it is {header.width}x{header.height} pixels with {header.channels} channels",
        )
    if reason := too_large(header, max_pixels):
        raise ImageError(file, reason)


def too_large(header: ImageHeader, max_pixels: int) -> str | None:
    """Why an image has too many pixels, or None."""
    pixels = header.height * header.width
    return (
        f"is {header.width}x{header.height}, {pixels:,} pixels; INPUT.MAX_IMAGE_PIXELS allows {max_pixels:,}"
        if pixels > max_pixels
        else None
    )
