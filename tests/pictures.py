"""Image files for tests, including kinds that no library writes on demand."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

TYPES = {1: "B", 3: "H", 4: "I", 11: "f", 12: "d"}


def picture(height=20, width=30, dtype=np.uint8, bands=3):
    """Return pixels (height, width, bands) whose corners differ, so that every rotation is visible."""
    rows, columns = np.mgrid[:height, :width]
    ramps = [
        rows * 200 / height,
        columns * 200 / width,
        (rows + columns) * 90 / height,
        rows * 0 + 7,
        columns * 3,
        rows * 2,
        rows * 0,
    ]
    return np.stack(ramps[:bands], axis=-1).astype(dtype)


def turned(pixels, orientation):
    """Apply an EXIF orientation 1..8, with numpy only."""
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }
    return turns[orientation](pixels)


def exif(value, *, order="<", kind=3, count=1):
    """Return EXIF data with one entry, the orientation."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    field = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
    return mark + struct.pack(order + "IHHHI", 8, 1, 0x0112, kind, count) + field + bytes(4)


def saved(form, pixels=None, **more):
    """Return the bytes of an image, by default :func:`picture`, in one of Pillow's formats."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(picture() if pixels is None else pixels)
    stream = io.BytesIO()
    image.save(stream, form, **more)
    return stream.getvalue()


def jpeg(pixels, **more):
    """Return the bytes of a JPEG."""
    return saved("JPEG", pixels, **{"quality": 95, **more})


def segment(code, body):
    """Return a segment of a JPEG."""
    return bytes([0xFF, code]) + (len(body) + 2).to_bytes(2, "big") + body


def after_soi(data, *parts):
    """Insert segments after the start marker of a JPEG."""
    return data[:2] + b"".join(parts) + data[2:]


def chunk(kind, body):
    """Return a chunk of a PNG."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png(rows, *, width, height, bits, colour, before=b"", after=b"", interlace=0):
    """Return the bytes of a PNG from packed rows."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + chunk(b"IDAT", data) + after + chunk(b"IEND", b"")


def png_of(pixels, **more):
    """Return the bytes of a PNG of (h, w, 1..4) uint8 or uint16."""
    height, width, bands = pixels.shape
    rows = pixels.astype(">u2" if pixels.dtype == np.uint16 else np.uint8)
    return png(
        [row.tobytes() for row in rows],
        width=width,
        height=height,
        bits=8 * pixels.dtype.itemsize,
        colour={1: 0, 2: 4, 3: 2, 4: 6}[bands],
        **more,
    )


def tiff(
    pixels,
    *,
    order="<",
    orientation=None,
    planar=1,
    deflate=False,
    predictor=1,
    tile=0,
    rows=0,
    photometric=None,
    big=False,
    extra=(),
):
    """Return the bytes of a TIFF of (h, w, bands); ``tile`` is the side of tiles, ``rows`` the height of strips."""
    height, width, bands = pixels.shape
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    planes = [pixels] if planar == 1 else [pixels[..., i : i + 1] for i in range(bands)]
    pieces = []
    for plane in planes:
        step_y, step_x = (tile, tile) if tile else (rows or height, width)
        for y in range(0, height, step_y):
            for x in range(0, width, step_x):
                part = plane[y : y + step_y, x : x + step_x]
                if tile:
                    part = np.pad(part, ((0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)))
                pieces.append(_predicted(part, predictor, order))
    if deflate:
        pieces = [zlib.compress(piece) for piece in pieces]
    photometric = (2 if bands >= 3 else 1) if photometric is None else photometric
    colours = 3 if photometric == 2 else 1
    shorts = {
        256: [width],
        257: [height],
        258: [8 * pixels.dtype.itemsize] * bands,
        259: [8 if deflate else 1],
        262: [photometric],
        277: [bands],
        284: [planar],
        317: [predictor],
        339: [kind] * bands,
    }
    tags = {tag: (3, values) for tag, values in shorts.items()}
    tags |= {322: (3, [tile]), 323: (3, [tile])} if tile else {278: (3, [rows or height])}
    if bands > colours:
        tags[338] = (3, [0] * (bands - colours))
    if orientation is not None:
        tags[274] = orientation if isinstance(orientation, tuple) else (3, [orientation])
    tags |= dict(extra)
    where, sizes = (324, 325) if tile else (273, 279)
    tags |= {where: (4, [0] * len(pieces)), sizes: (4, [len(piece) for piece in pieces])}
    return _laid_out(tags, pieces, where, order, big)


def _predicted(part, predictor, order):
    part = np.ascontiguousarray(part)
    size = part.dtype.itemsize
    if predictor == 2:
        ints = part.view(f"u{size}")
        ints = np.concatenate([ints[:, :1], np.diff(ints, axis=1)], axis=1)
        return ints.astype(f"{order}u{size}").tobytes()
    if predictor == 3:
        height, width, bands = part.shape
        big_endian = part.astype(part.dtype.newbyteorder(">")).view(np.uint8).reshape(height, width * bands, size)
        data = big_endian.transpose(0, 2, 1).reshape(height, -1, bands)
        return np.concatenate([data[:, :1], np.diff(data, axis=1)], axis=1).tobytes()
    return part.astype(part.dtype.newbyteorder(order)).tobytes()


def _laid_out(tags, pieces, where, order, big):
    number, width, head = ("Q", 8, 16) if big else ("I", 4, 8)
    packed = {tag: struct.pack(order + TYPES[kind] * len(values), *values) for tag, (kind, values) in tags.items()}
    start = head + (8 if big else 2) + len(tags) * (20 if big else 12) + width
    long = {tag: data for tag, data in packed.items() if len(data) > width}
    position = start + sum(map(len, long.values()))
    offsets = []
    for piece in pieces:
        offsets.append(position)
        position += len(piece)
    packed[where] = struct.pack(f"{order}{len(offsets)}I", *offsets)
    entries, values = b"", b""
    for tag in sorted(tags):
        data = packed[tag]
        field = data.ljust(width, b"\0")
        if len(data) > width:
            field, values = struct.pack(order + number, start + len(values)), values + data
        entries += struct.pack(order + "HH" + number, tag, tags[tag][0], len(tags[tag][1])) + field
    mark = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    mark += struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8)
    count = struct.pack(order + ("Q" if big else "H"), len(tags))
    return b"".join([mark, count, entries, bytes(width), values, *pieces])
