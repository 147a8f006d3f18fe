"""Reads the tags of TIFF files and EXIF data, and the bands that no other reader returns unchanged."""

import struct
import sys
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

Reader = Callable[[int, int], bytes]
"""``read(offset, count)`` returns up to ``count`` bytes of a file."""

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, CHANNELS, ROWS_PER_STRIP, STRIP_SIZES = 273, 274, 277, 278, 279
PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 284, 317, 322, 323, 324, 325
SAMPLE_FORMAT = 339
"""Numbers of tags."""

INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Types of a tag that are whole numbers, as codes of ``struct``: BYTE, SHORT, LONG, LONG8."""

MOST_VALUES = 1 << 20
"""Most values of a tag; a file that claims to have more is broken."""

NATIVE = "<" if sys.byteorder == "little" else ">"
"""Byte order of this machine."""

JPEG = 7
"""Value of ``COMPRESSION``."""

UINT, INT, FLOAT = 1, 2, 3
"""Values of ``SAMPLE_FORMAT``."""


class Tag(NamedTuple):
    """The type of a tag, a key of ``INTEGERS``, and its values."""

    kind: int
    values: tuple[int, ...]


class TiffError(ValueError):
    """Raised for data that is not a TIFF, or a broken one; the message continues "FILE cannot be read: ..."."""


def byte_order(mark: bytes) -> str | None:
    """Return "<" or ">" for data that starts like a TIFF, else None."""
    return {b"II": "<", b"MM": ">"}.get(mark[:2]) if mark[2:4] in (b"*\0", b"\0*", b"+\0", b"\0+") else None


def tags_of(read: Reader, wanted: frozenset[int] | None = None) -> dict[int, Tag]:
    """Read the whole-number tags of the first directory.

    Args:
        read: reads the file.
        wanted: tags to read; None for all.

    Raises:
        TiffError: there is no directory, or it is truncated.

    Source: TIFF 6.0, section 2; BigTIFF has 8 bytes where TIFF has 4.
    """
    mark = read(0, 16)
    order = byte_order(mark)
    if order is None or len(mark) < 8:
        raise TiffError("it has no TIFF data")
    big = 43 in mark[2:4]
    number, count_size, entry_size, inline = ("Q", 8, 20, 8) if big else ("I", 2, 12, 4)
    try:
        (offset,) = struct.unpack_from(order + number, mark, 8 if big else 4)
        (count,) = struct.unpack(order + ("Q" if big else "H"), read(offset, count_size))
        entries = read(offset + count_size, min(count, 0xFFFF) * entry_size)
        tags: dict[int, Tag] = {}
        for start in range(0, len(entries) - entry_size + 1, entry_size):
            tag, kind, length = struct.unpack_from(order + "HH" + number, entries, start)
            if kind not in INTEGERS or (wanted is not None and tag not in wanted) or length > MOST_VALUES:
                continue
            form = f"{order}{length}{INTEGERS[kind]}"
            field = entries[start + entry_size - inline : start + entry_size]
            size = struct.calcsize(form)
            values = field[:size] if size <= inline else read(struct.unpack(order + number, field)[0], size)
            tags.setdefault(tag, Tag(kind, struct.unpack(form, values)))
    except (struct.error, OverflowError) as error:
        raise TiffError("its directory is cut off") from error
    return tags


def first(tags: dict[int, Tag], tag: int, default: int) -> int:
    """Return the first value of a tag, or ``default`` if it has none."""
    return tags[tag].values[0] if tag in tags and tags[tag].values else default


def pieces_of(tags: dict[int, Tag]) -> list[tuple[int, int]]:
    """Return the (offset, bytes) of every strip or tile.

    Raises:
        TiffError: there are none, or the numbers of offsets and of sizes differ.
    """
    offsets = tags.get(TILE_OFFSETS, tags.get(STRIP_OFFSETS))
    sizes = tags.get(TILE_SIZES, tags.get(STRIP_SIZES))
    if not offsets or not sizes or len(offsets.values) != len(sizes.values):
        raise TiffError("it does not state where its pixels are")
    return list(zip(offsets.values, sizes.values, strict=True))


def read_bands(read: Reader, tags: dict[int, Tag]) -> np.ndarray:
    """Read all bands of a TIFF in their own type, without applying the orientation.

    OpenCV decompresses, but reads neither more than four bands nor half floats, and mixes up bands that are stored one
    after the other. So the strips or tiles are presented to it as a greyscale image whose width is that of all bands
    together.

    Args:
        read: reads the file.
        tags: all tags of the file.

    Returns:
        (height, width, bands).

    Raises:
        TiffError: the pixels are truncated, or stored in a way that is not supported.
    """
    kind = _kind(tags)
    width, height, bands = (first(tags, tag, 1) for tag in (WIDTH, HEIGHT, CHANNELS))
    pieces = pieces_of(tags)
    if first(tags, PLANAR, 1) == 1:
        pixels = _plane(read, tags, pieces, kind, bands)
    else:
        share, rest = divmod(len(pieces), bands)
        if rest:
            raise TiffError(f"its {bands} bands are stored in {len(pieces)} pieces, which is not a multiple")
        pixels = np.concatenate(
            [_plane(read, tags, pieces[i * share : (i + 1) * share], kind, 1) for i in range(bands)], axis=2
        )
    pixels = pixels[:height, :width]
    white_is_zero = first(tags, PHOTOMETRIC, 1) == 0 and kind.kind == "u"
    return np.invert(pixels) if white_is_zero else pixels


def _kind(tags: dict[int, Tag]) -> np.dtype:
    """Return the type of the values.

    Raises:
        TiffError: it is not supported, or differs between the bands.
    """
    bits, form = first(tags, BITS, 1), first(tags, SAMPLE_FORMAT, UINT)
    is_mixed = BITS in tags and len(set(tags[BITS].values)) > 1
    if is_mixed or bits not in (8, 16, 32, 64) or form not in (UINT, INT, FLOAT):
        raise TiffError(f"bands of {bits} bits in the sample format {form} are not supported")
    if form == FLOAT and bits == 8:
        raise TiffError("floats of 8 bits are not supported")
    return np.dtype({UINT: "u", INT: "i", FLOAT: "f"}[form] + str(bits // 8))


def _plane(read: Reader, tags: dict[int, Tag], pieces: list[tuple[int, int]], kind: np.dtype, bands: int) -> np.ndarray:
    """Decode pixels (rows, columns, bands) that are stored together; tiles may extend beyond the image."""
    width, height = first(tags, WIDTH, 1), first(tags, HEIGHT, 1)
    tile = first(tags, TILE_WIDTH, 0)
    columns = -(-width // tile) * tile if tile else width
    predictor = first(tags, PREDICTOR, 1)
    # With one band the decoder undoes the predictor. With several it would confuse the next band with the next pixel.
    described = predictor if bands == 1 else 1
    form = FLOAT if kind.itemsize == 8 or described == 3 else UINT
    entries = {
        WIDTH: columns * bands,
        HEIGHT: height,
        BITS: 8 * kind.itemsize,
        COMPRESSION: first(tags, COMPRESSION, 1),
        PHOTOMETRIC: 1,
        CHANNELS: 1,
        PLANAR: 1,
        PREDICTOR: described,
        SAMPLE_FORMAT: form,
    }
    if tile:
        entries |= {TILE_WIDTH: tile * bands, TILE_HEIGHT: first(tags, TILE_HEIGHT, 1)}
    else:
        entries[ROWS_PER_STRIP] = first(tags, ROWS_PER_STRIP, height)
    if sum(size for _, size in pieces) > (1 << 26) + 4 * columns * bands * height * kind.itemsize:
        raise TiffError("it claims that its pixels take far more bytes than they can")
    order = byte_order(read(0, 4))
    assert order is not None, "tags were read from it"
    file = _grey_tiff(read, order, entries, pieces, tiled=bool(tile))
    try:
        grey = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        grey = None
    if grey is None or grey.shape != (height, columns * bands) or grey.dtype.itemsize != kind.itemsize:
        raise TiffError(
            f"its pixels cannot be decoded (compression {entries[COMPRESSION]}, {bands} bands of {entries[BITS]} bits)"
        )
    if described != predictor:
        grey = _undo(grey.view(f"u{kind.itemsize}").reshape(height, -1, tile or columns, bands), predictor, order)
    return grey.view(kind).reshape(height, columns, bands)


def _undo(pixels: np.ndarray, predictor: int, order: str) -> np.ndarray:
    """Turn differences (rows, tiles, columns, bands), unsigned, back into values.

    Args:
        pixels: the differences.
        predictor: 2 or 3.
        order: byte order of the file.

    Raises:
        TiffError: the predictor is not supported.

    Source: TIFF 6.0, section 14 (2: differences of neighbours); TIFF technical note 3 (3: differences of bytes, the
    highest bytes of all values first).
    """
    if predictor == 2:
        return np.cumsum(pixels, axis=2, dtype=pixels.dtype)
    if predictor != 3:
        raise TiffError(f"predictor {predictor} is not supported")
    rows, tiles, columns, bands = pixels.shape
    size = pixels.dtype.itemsize
    # The decoder took the bytes for numbers in the order of the file, and swapped them if that of the machine differs.
    raw = np.ascontiguousarray(pixels.byteswap() if order != NATIVE else pixels)
    differences = raw.reshape(rows, tiles, -1).view(np.uint8).reshape(rows, tiles, -1, bands)
    data = np.cumsum(differences, axis=2, dtype=np.uint8)
    planes = data.reshape(rows, tiles, size, columns * bands)
    big_endian = np.ascontiguousarray(planes.transpose(0, 1, 3, 2)).view(f">u{size}")
    return big_endian.astype(f"u{size}").reshape(rows, tiles, columns, bands)


def _grey_tiff(
    read: Reader, order: str, entries: dict[int, int], pieces: list[tuple[int, int]], *, tiled: bool
) -> bytes:
    """Return a TIFF file with the given tags and the pieces of the original.

    Args:
        read: reads the original.
        order: byte order of both files.
        entries: value of each tag.
        pieces: (offset, bytes) in the original.
        tiled: whether the pieces are tiles or strips.

    Raises:
        TiffError: a piece is truncated, or all are more than 4 GiB.
    """
    data = []
    for offset, size in pieces:
        piece = read(offset, size)
        if len(piece) < size:
            raise TiffError("its pixels are cut off")
        data.append(piece)
    count = len(entries) + 2
    lists = 8 + 2 + 12 * count + 4  # offset of the lists of the pieces' offsets and sizes
    start = lists + 8 * len(data)
    sizes = [len(piece) for piece in data]
    offsets = [start + before for before in np.cumsum([0, *sizes])[:-1].tolist()]
    if start + sum(sizes) >= 1 << 32:
        raise TiffError("its pixels take more than 4 GiB")
    fields = {tag: (4, 1, value) for tag, value in entries.items()}
    for tag, values, place in (
        (TILE_OFFSETS if tiled else STRIP_OFFSETS, offsets, lists),
        (TILE_SIZES if tiled else STRIP_SIZES, sizes, lists + 4 * len(data)),
    ):
        fields[tag] = (4, len(values), values[0] if len(values) == 1 else place)
    directory = b"".join(struct.pack(order + "HHII", tag, *fields[tag]) for tag in sorted(fields))
    numbers = struct.pack(f"{order}{2 * len(data)}I", *offsets, *sizes)
    head = struct.pack(order + "2sHIH", b"II" if order == "<" else b"MM", 42, 8, count)
    return b"".join([head, directory, bytes(4), numbers, *data])
