"""Sizes, orientations, bands and depth from the headers of every format."""

import struct

import numpy as np
import pytest
from pictures import after_soi, chunk, exif, jpeg, picture, png, png_of, saved, segment, tiff
from PIL import Image

from retina_plugin.data.header_parsers import ImageHeader, orientation_of
from retina_plugin.data.image_headers import BLOCK, ImageFile
from retina_plugin.data.strangers_files import ImageError

HEIGHT, WIDTH = 20, 30
RGB = picture(HEIGHT, WIDTH)
SOI = b"\xff\xd8"


@pytest.fixture()
def header(tmp_path):
    """Return the header of a file with the given bytes."""

    def read(data):
        (tmp_path / "x").write_bytes(data)
        with ImageFile(tmp_path / "x") as image:
            return image.header

    return read


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("value, want", [*((i, i) for i in range(1, 9)), (0, 1), (9, 1), (65535, 1)])
def test_the_orientation_is_that_of_exif_and_undefined_values_become_1(header, order, value, want):
    data = exif(value, order=order)
    files = {
        "JPEG": after_soi(jpeg(RGB), segment(0xE1, b"Exif\0\0" + data)),
        "PNG": png_of(RGB, before=chunk(b"eXIf", data)),
        "WEBP": saved("WEBP", exif=data),
        "TIFF": tiff(RGB, orientation=value, order=order),
    }
    size = (WIDTH, HEIGHT) if want >= 5 else (HEIGHT, WIDTH)
    for form, file in files.items():
        assert header(file) == ImageHeader(*size, want, form, 3, 8), form


@pytest.mark.parametrize("kind, count", [(4, 1), (2, 2), (1, 1), (5, 1), (3, 2), (3, 0), (3, 1 << 31), (99, 1)])
def test_an_orientation_of_a_wrong_type_becomes_1(kind, count):
    assert orientation_of(exif(6, kind=kind, count=count)) == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"II", b"II*\0", b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"nonsense" * 5],
)
def test_truncated_exif_data_has_orientation_1(data):
    assert orientation_of(data) == 1


def test_segments_before_the_size_of_a_jpeg_are_skipped(header):
    thumbnail = segment(0xE1, b"Exif\0\0" + exif(6) + jpeg(RGB[:5, :7]))
    many = [segment(0xE2, bytes(65_000)) for _ in range(9)]  # half a megabyte of colour profile
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")
    turned = ImageHeader(WIDTH, HEIGHT, 6, "JPEG", 3, 8)
    assert header(after_soi(jpeg(RGB), thumbnail)) == turned
    assert header(after_soi(jpeg(RGB), *many, thumbnail)) == turned
    assert header(after_soi(jpeg(RGB), xmp, thumbnail)) == turned
    assert header(after_soi(jpeg(RGB), thumbnail, segment(0xE1, b"Exif\0\0" + exif(3)))) == turned, "the first counts"
    assert header(after_soi(jpeg(RGB), b"\xff\xff\xff", thumbnail)) == turned, "fill bytes"
    assert header(after_soi(jpeg(RGB), b"\0\0rubbish", thumbnail)) == turned, "decoders skip rubbish"
    assert header(jpeg(RGB, progressive=True)) == header(jpeg(RGB)) == ImageHeader(HEIGHT, WIDTH, 1, "JPEG", 3, 8)
    assert header(jpeg(RGB[..., 0])).channels == 1
    assert header(jpeg(Image.new("CMYK", (5, 4)))).channels == 4


@pytest.mark.parametrize(
    "bits, colour, channels, depth",
    [
        (1, 0, 1, 1),
        (2, 0, 1, 2),
        (16, 0, 1, 16),
        (8, 2, 3, 8),
        (16, 2, 3, 16),
        (1, 3, 3, 8),
        (4, 3, 3, 8),
        (8, 4, 2, 8),
        (16, 4, 2, 16),
        (16, 6, 4, 16),
    ],
)
def test_channels_and_depth_of_every_type_of_png(header, bits, colour, channels, depth):
    data = png([bytes(4 * 8)] * 4, width=4, height=4, bits=bits, colour=colour)
    assert header(data) == ImageHeader(4, 4, 1, "PNG", channels, depth)


def test_exif_after_the_pixels_of_a_png_counts_but_not_pixels_that_look_like_it(header):
    assert header(png_of(RGB, after=chunk(b"eXIf", exif(8)))).orientation == 8
    assert header(png_of(RGB, after=chunk(b"tEXt", b"eXIf" + exif(8)))).orientation == 1
    assert header(png_of(RGB, before=chunk(b"iCCP", bytes(3 * BLOCK)) + chunk(b"eXIf", exif(6)))).orientation == 6


def test_webp_exif_after_other_chunks_is_found(header):
    data = saved("WEBP", exif=exif(6))
    at = data.index(b"VP8 ")
    longer = data[:at] + b"ICCP" + struct.pack("<I", 5001) + bytes(5002) + data[at:]
    assert header(longer[:4] + struct.pack("<I", len(longer) - 8) + longer[8:]).orientation == 6


@pytest.mark.parametrize(
    "form, more", [("WEBP", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("BMP", {}), ("PPM", {})]
)
def test_headers_of_rarer_formats(header, form, more):
    got = header(saved(form, RGB, **more))
    assert (got.height, got.width, got.format, got.channels, got.bits) == (HEIGHT, WIDTH, form, 3, 8)


def test_the_header_of_an_animation_is_that_of_its_first_frame(header):
    for form in ("GIF", "WEBP", "PNG"):
        got = header(saved(form, RGB, save_all=True, append_images=[Image.fromarray(255 - RGB)]))
        assert (got.height, got.width, got.format) == (HEIGHT, WIDTH, form)


@pytest.mark.parametrize(
    "kind, bands", [("u2", 1), ("u2", 3), ("u2", 4), ("i2", 1), ("f4", 1), ("f4", 5), ("f8", 3), ("f2", 2), ("u1", 7)]
)
def test_bands_and_depth_of_a_tiff(header, kind, bands):
    data = tiff(picture(dtype=kind, bands=bands))
    assert header(data) == ImageHeader(HEIGHT, WIDTH, 1, "TIFF", bands, 8 * np.dtype(kind).itemsize, kind[0] == "f")
    assert header(tiff(picture(dtype=kind, bands=bands), big=True, order=">")) == header(data)


def test_depth_of_netpbm_files(header):
    assert header(b"P5 3 2 4095\n" + bytes(12)).bits == 16
    assert header(b"P2\n# text\n3 2\n9\n" + b"1 " * 6).channels == 1


@pytest.mark.parametrize(
    "data, message",
    [
        (SOI, "truncated"),
        (SOI + b"\xff\xd9", "no image data|truncated"),
        (SOI + bytes(90_000), "broken"),
        (SOI + segment(0xDA, bytes(8)), "does not state its size"),
        (SOI + segment(0xC0, b"\x0c\0\x10\0\x10\x03") + segment(0xDA, bytes(8)), "12 bits"),
        (SOI + segment(0xC0, b"\x08\0\0\0\x10\x03") + segment(0xDA, bytes(8)), "16x0"),
        (b"\x89PNG\r\n\x1a\n", "no header"),
        (png([], width=0, height=7, bits=8, colour=0), "0x7"),
        (b"RIFF\x10\0\0\0WEBPnone", "no image data"),
        (b"II*\0\x08\0\0\0", "cut off"),
    ],
)
def test_broken_headers_are_reported(header, data, message):
    with pytest.raises(ImageError, match=message):
        header(data)
