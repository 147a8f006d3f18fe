"""Parses the headers of image files of each format; no pixel is decoded."""

import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from retina_plugin.data import tiff
from retina_plugin.data.pillow_files import open_with_pillow
from retina_plugin.data.strangers_files import stranger

if TYPE_CHECKING:
    from retina_plugin.data.image_headers import ImageFile

MOST_EXIF = 1 << 20
"""Bytes of EXIF data that are read."""


@dataclass(frozen=True)
class ImageHeader:
    """Size, orientation and type of the pixels of an image.

    Args:
        height: in pixels as displayed, that is, after the EXIF orientation has been applied.
        width: likewise.
        orientation: EXIF orientation, 1..8; values that EXIF does not define become 1.
        format: Pillow's name of it: "JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM".
        channels: per pixel, including alpha; 3 with a palette.
        bits: per channel.
        is_float: whether the values are floats.
    """

    height: int
    width: int
    orientation: int
    format: str
    channels: int
    bits: int
    is_float: bool = False


@dataclass(frozen=True)
class Parsed:
    """The header of an image file, and what decoding it needs.

    Args:
        header: of the image.
        tags: of a TIFF.
        scan: offset of the compressed data of a JPEG.
    """

    header: ImageHeader
    tags: dict[int, tiff.Tag] = field(default_factory=dict)
    scan: int = 0


def parse(file: "ImageFile") -> Parsed:
    """Parse the header of an open image file.

    Raises:
        ImageError: it is not an image of a supported format, or is truncated or broken in its header.
    """
    head = file.head
    if head[:2] == b"\xff\xd8":
        return _jpeg(file)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return Parsed(_png(file))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Parsed(_webp(file))
    if tiff.byte_order(head):
        return _tiff(file)
    return Parsed(_other(file))


def _jpeg(file: "ImageFile") -> Parsed:
    """Source: ITU-T T.81, annex B (markers); Exif 2.3, section 4.5 (APP1)."""
    position, orientation, frame = 2, 0, b""
    while True:
        mark = file.read(position, 4)
        if len(mark) < 4:
            raise file.broken("is truncated: the JPEG ends in its header")
        if mark[0] != 0xFF:  # decoders skip bytes between two segments
            skipped = file.read(position, 1 << 16).find(b"\xff")
            if skipped < 0:
                raise file.broken("cannot be read: the header of the JPEG is broken")
            position += skipped
            continue
        code, length = mark[1], mark[2] << 8 | mark[3]
        if code == 0xFF or code == 0 or code == 1 or 0xD0 <= code <= 0xD8:  # fill bytes, markers without a segment
            position += 1 if code == 0xFF else 2
            continue
        if code == 0xD9:
            raise file.broken("cannot be read: the JPEG has no image data")
        if code == 0xDA:
            break
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            frame = frame or file.read(position + 4, 6)
        elif code == 0xE1 and not orientation and file.read(position + 4, 6) == b"Exif\0\0":
            orientation = orientation_of(file.read(position + 10, max(0, length - 8)))
        position += 2 + max(2, length)
    if len(frame) < 6:
        raise file.broken("cannot be read: the JPEG does not state its size")
    bits, height, width, channels = struct.unpack(">BHHB", frame)
    if bits != 8:
        raise file.broken(f"cannot be read: it is a JPEG of {bits} bits, of which only 8 are supported")
    return Parsed(_displayed(height, width, orientation or 1, "JPEG", channels, bits), scan=position)


def _png(file: "ImageFile") -> ImageHeader:
    """Source: PNG specification, third edition, 11.2.1 (IHDR), 11.3.5.4 (eXIf)."""
    length, kind, width, height, bits, colour = struct.unpack(">I4sIIBB", file.head[8:26].ljust(18, b"\0"))
    if kind != b"IHDR" or length != 13 or colour not in (0, 2, 3, 4, 6):
        raise file.broken("cannot be read: the PNG has no header")
    position, orientation = 33, 1
    while len(mark := file.read(position, 8)) == 8 and mark[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(mark[:4], "big")
        if mark[4:] == b"eXIf":
            orientation = orientation_of(file.read(position + 8, min(length, MOST_EXIF)))
            break
        position += 12 + length
        if position > file.size:
            raise file.broken("is truncated: the PNG has no end")
    else:
        orientation = _late_exif(file)
    bits, channels = (8, 3) if colour == 3 else (bits, {0: 1, 2: 3, 4: 2, 6: 4}[colour])
    return _displayed(height, width, orientation, "PNG", channels, bits)


def _late_exif(file: "ImageFile") -> int:
    """Return the orientation in an eXIf chunk after the pixels; its checksum tells it from pixels that look alike."""
    tail = file.tail()
    at = tail.rfind(b"eXIf")
    if at < 4:
        return 1
    end = at + 4 + int.from_bytes(tail[at - 4 : at], "big")
    whole = zlib.crc32(tail[at:end]).to_bytes(4, "big") == tail[end : end + 4]
    return orientation_of(tail[at + 4 : end]) if whole else 1


def _webp(file: "ImageFile") -> ImageHeader:
    """Source: RFC 9649, section 2 (container), RFC 6386 section 9.1 (VP8)."""
    kind, data, orientation, channels = file.head[12:16], file.head[20:30].ljust(10, b"\0"), 1, 3
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[i : i + 3], "little") for i in (4, 7))
        channels += data[0] >> 4 & 1
        orientation = _webp_exif(file) if data[0] & 8 else 1
    elif kind == b"VP8L" and data[0] == 0x2F:
        packed = int.from_bytes(data[1:5], "little")
        width, height, channels = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF), 3 + (packed >> 28 & 1)
    elif kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(data[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    else:
        raise file.broken("cannot be read: the WebP has no image data")
    return _displayed(height, width, orientation, "WEBP", channels, 8)


def _webp_exif(file: "ImageFile") -> int:
    position = 12
    for _ in range(10_000):  # more chunks than any image of a dataset has
        mark = file.read(position, 8)
        if len(mark) < 8:
            break
        length = int.from_bytes(mark[4:], "little")
        if mark[:4] == b"EXIF":
            data = file.read(position + 8, min(length, MOST_EXIF))
            return orientation_of(data.removeprefix(b"Exif\0\0"))
        position += 8 + length + length % 2
    return 1


def _tiff(file: "ImageFile") -> Parsed:
    try:
        tags = tiff.tags_of(file.read)
        tiff.pieces_of(tags)
    except tiff.TiffError as error:
        raise file.broken(f"cannot be read: {error}") from error
    height, width = tiff.first(tags, tiff.HEIGHT, 0), tiff.first(tags, tiff.WIDTH, 0)
    has_palette = tiff.first(tags, tiff.PHOTOMETRIC, 1) == 3
    channels = 3 if has_palette else tiff.first(tags, tiff.CHANNELS, 1)
    bits = tiff.first(tags, tiff.BITS, 1)
    is_float = tiff.first(tags, tiff.SAMPLE_FORMAT, tiff.UINT) == tiff.FLOAT
    return Parsed(_displayed(height, width, _orientation(tags), "TIFF", channels, bits, is_float), tags=tags)


def _other(file: "ImageFile") -> ImageHeader:
    if what := stranger(file.head):
        raise file.broken(f"cannot be read: it is {what}")
    with open_with_pillow(file) as image:
        width, height = image.size
        mode, form = image.mode, image.format
    assert form is not None, "Pillow knows the format of what it opened"
    channels = {"1": 1, "L": 1, "I": 1, "I;16": 1, "LA": 2, "RGBA": 4}.get(mode, 3)
    bits = {"1": 1, "I": 16, "I;16": 16, "F": 32}.get(mode, 8)
    return _displayed(height, width, 1, form, channels, bits, mode == "F")


def orientation_of(exif: bytes) -> int:
    """Return the orientation 1..8 in EXIF data; 1 if there is none or it is not valid."""

    def read(offset: int, count: int) -> bytes:
        """Read a part of the EXIF data."""
        return exif[offset : offset + count]

    try:
        return _orientation(tiff.tags_of(read, frozenset([tiff.ORIENTATION])))
    except tiff.TiffError:
        return 1


def _orientation(tags: dict[int, tiff.Tag]) -> int:
    """Return the orientation in the tags: EXIF defines one SHORT of 1..8; everything else becomes 1."""
    tag = tags.get(tiff.ORIENTATION)
    is_valid = tag is not None and tag.kind == 3 and len(tag.values) == 1 and 1 <= tag.values[0] <= 8
    return tag.values[0] if tag is not None and is_valid else 1


def _displayed(
    height: int, width: int, orientation: int, form: str, channels: int, bits: int, is_float: bool = False
) -> ImageHeader:
    """Build the header of an image with its size as displayed: orientations from 5 on swap height and width."""
    if orientation >= 5:
        height, width = width, height
    return ImageHeader(height, width, orientation, form, channels, bits, is_float)
