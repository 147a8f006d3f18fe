"""TIFFs of every type, layout and byte order are read as they were written."""

import contextlib
import io
import itertools
import zlib

import numpy as np
import pytest
from pictures import exif, picture, tiff
from PIL import Image

from retina_plugin.data.tiff import ORIENTATION, TiffError, read_bands, tags_of

TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "f2", "f4", "f8"]


def reader(data):
    return lambda offset, count: data[offset : offset + count]


def bands(data):
    return read_bands(reader(data), tags_of(reader(data)))


def assert_read(pixels, **layout):
    got = bands(tiff(pixels, **layout))
    assert got.dtype == pixels.dtype and np.array_equal(got, pixels), layout


@pytest.mark.parametrize("kind, count", itertools.product(TYPES, (1, 2, 3, 4, 5, 7)))
def test_every_type_number_of_bands_layout_and_byte_order(kind, count):
    for planar, order, deflate in itertools.product((1, 2), "<>", (False, True)):
        assert_read(picture(bands=count, dtype=kind), planar=planar, order=order, deflate=deflate)


@pytest.mark.parametrize("count, kind, planar, order", itertools.product((1, 3, 5), ("u1", "u2", "f4"), (1, 2), "<>"))
def test_strips_and_tiles_with_every_predictor(count, kind, planar, order):
    pixels = picture(37, 41, bands=count, dtype=kind)
    for predictor, layout in itertools.product((1, 2, 3), ({}, {"rows": 7}, {"tile": 16})):
        if predictor == 1 or (predictor == 3) == (kind == "f4"):
            assert_read(pixels, planar=planar, order=order, deflate=True, predictor=predictor, **layout)


def test_big_tiff_and_white_as_zero():
    assert_read(picture(dtype="u2"), big=True)
    assert_read(picture(dtype="u2"), big=True, order=">", rows=3)
    assert bands(tiff(np.zeros((2, 2, 1), np.uint16), photometric=0)).min() == 65535


def test_files_compressed_by_pillow_are_read():
    pixels = picture()
    for compression in ("tiff_lzw", "packbits", "tiff_adobe_deflate"):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "TIFF", compression=compression)
        assert np.array_equal(bands(stream.getvalue()), pixels), compression


@pytest.mark.parametrize("cut", [4, 8, 9, 30, 100, 200])
def test_a_truncated_file_is_an_error(cut):
    with pytest.raises(TiffError):
        bands(tiff(picture(dtype="u2"))[:cut])


@pytest.mark.parametrize(
    "extra, message",
    [
        ({258: [12]}, "12 bits"),
        ({279: [1, 2]}, "where its pixels are"),
        ({278: [0]}, "decoded"),
        ({259: [9999]}, "compression 9999"),
        ({317: [7]}, "predictor|decoded"),
        ({284: [2]}, "pieces"),
    ],
)
def test_impossible_tags_are_reported(extra, message):
    data = tiff(picture(dtype="u2"))
    tags = tags_of(reader(data))
    changed = {tag: tags[256]._replace(values=tuple(values)) for tag, values in extra.items()}
    with pytest.raises(TiffError, match=message):
        read_bands(reader(data), tags | changed)


def test_pieces_that_claim_to_be_far_larger_than_the_pixels_are_refused():
    data = tiff(picture(dtype="u2")) + bytes(100)
    tags = tags_of(reader(data))
    offsets = tags[273]._replace(values=tags[273].values * 10_000)
    sizes = tags[279]._replace(values=(1 << 20,) * 10_000)
    many = {273: offsets, 279: sizes}
    with pytest.raises(TiffError, match="far more bytes"):
        read_bands(reader(data), tags | many)


def test_broken_bytes_raise_tiff_errors_only():
    rng = np.random.default_rng(0)
    for whole in (
        tiff(picture(dtype="u2")),
        tiff(picture(dtype="f4", bands=5), deflate=True, predictor=3, tile=16),
        tiff(picture(dtype="u2"), big=True),
    ):
        for _ in range(300):
            data = bytearray(whole)
            for at in rng.integers(0, 300, rng.integers(1, 6)):
                data[at] = rng.integers(0, 256)
            with contextlib.suppress(TiffError):
                bands(bytes(data))


def test_exif_data_is_read_like_a_tiff():
    for order in "<>":
        assert tags_of(reader(exif(6, order=order)))[ORIENTATION].values == (6,)
    with pytest.raises(TiffError):
        tags_of(reader(zlib.compress(b"no")))
