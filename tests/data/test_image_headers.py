"""Sizes, orientations and ends of image files, from a few of their bytes."""

import io
import os
import struct

import cv2
import numpy as np
import pytest
from pictures import after_soi, chunk, exif, jpeg, picture, png, png_of, segment, tiff
from PIL import Image

from retina_plugin.data.image_headers import BLOCK, ImageFile, ImageHeader, orientation_of
from retina_plugin.data.strangers_files import ImageError

HEIGHT, WIDTH = 20, 30
RGB = picture(HEIGHT, WIDTH)


@pytest.fixture()
def header(tmp_path):
    """The header of bytes, and a look at their end."""

    def read(data, *, end=True, **options):
        (tmp_path / "x").write_bytes(data)
        with ImageFile(tmp_path / "x", **options) as image:
            if end:
                image.check_end()
            return image.header

    return read


def saved(form, image=None, **more):
    stream = io.BytesIO()
    (image or Image.fromarray(RGB)).save(stream, form, **more)
    return stream.getvalue()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("value, want", [*((i, i) for i in range(1, 9)), (0, 1), (9, 1), (65535, 1)])
def test_an_orientation_is_that_of_exif_and_nonsense_is_none(header, order, value, want):
    data = exif(value, order=order)
    files = {
        "JPEG": after_soi(jpeg(RGB), segment(0xE1, b"Exif\0\0" + data)), "PNG": png_of(RGB, before=chunk(b"eXIf", data)),
        "WEBP": saved("WEBP", exif=data), "TIFF": tiff(RGB, orientation=value, order=order),
    }  # fmt: skip
    size = (WIDTH, HEIGHT) if want >= 5 else (HEIGHT, WIDTH)
    for form, file in files.items():
        assert header(file) == ImageHeader(*size, want, form, 3, 8), form


@pytest.mark.parametrize("kind, count", [(4, 1), (2, 2), (1, 1), (5, 1), (3, 2), (3, 0), (3, 1 << 31), (99, 1)])
def test_an_orientation_of_a_wrong_type_is_none(kind, count):
    assert orientation_of(exif(6, kind=kind, count=count)) == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"II", b"II*\0", b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"nonsense" * 5],
)
def test_exif_data_that_is_cut_off_turns_nothing(data):
    assert orientation_of(data) == 1


def test_what_stands_in_front_of_the_size_of_a_jpeg(header):
    thumbnail = segment(0xE1, b"Exif\0\0" + exif(6) + jpeg(RGB[:5, :7]))
    many = [segment(0xE2, bytes(65_000)) for _ in range(9)]  # half a megabyte of colour profile
    turned = ImageHeader(WIDTH, HEIGHT, 6, "JPEG", 3, 8)
    assert header(after_soi(jpeg(RGB), thumbnail)) == turned
    assert header(after_soi(jpeg(RGB), *many, thumbnail)) == turned
    assert header(after_soi(jpeg(RGB), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), thumbnail)) == turned
    assert header(after_soi(jpeg(RGB), thumbnail, segment(0xE1, b"Exif\0\0" + exif(3)))) == turned, "the first counts"
    assert header(after_soi(jpeg(RGB), b"\xff\xff\xff", thumbnail)) == turned, "fill bytes"
    assert header(after_soi(jpeg(RGB), b"\0\0rubbish", thumbnail)) == turned, "readers skip rubbish"
    assert header(jpeg(RGB, progressive=True)) == header(jpeg(RGB)) == ImageHeader(HEIGHT, WIDTH, 1, "JPEG", 3, 8)
    assert header(jpeg(RGB[..., 0])).channels == 1 and header(jpeg(Image.new("CMYK", (5, 4)))).channels == 4


@pytest.mark.parametrize(
    "after",
    [
        b"",
        b"\0" * 10_000,
        b"\0\0\0\x18ftypmp42" + bytes(2_000_000) + b"\xff\xd9" + bytes(2_000_000),
        np.random.default_rng(0).bytes(3_000_000),
    ],
)
def test_what_follows_the_end_of_a_jpeg_does_not_matter(tmp_path, after):
    data = jpeg(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    (tmp_path / "x").write_bytes(data + after)
    with ImageFile(tmp_path / "x") as image:
        assert image.jpeg_end() in (len(data), len(data + after)), "or the file happens to end as a JPEG does"
        assert (image.header.height, image.header.width) == (200, 300)


@pytest.mark.parametrize("noise", [40, 400])
def test_a_jpeg_that_is_cut_off_anywhere_is_named(header, noise):
    thumbnail = segment(0xE1, b"Exif\0\0" + exif(1) + jpeg(RGB))
    data = after_soi(jpeg(np.random.default_rng(0).integers(0, 256, (noise, noise, 3), dtype=np.uint8)), thumbnail)
    for share in np.linspace(0.001, 0.999, 40):
        with pytest.raises(ImageError, match="is truncated|no end|no image"):
            header(data[: max(3, int(share * len(data)))])
    at_the_thumbnail = data.index(b"\xff\xd9") + 2
    with pytest.raises(ImageError, match="truncated"):
        header(data[:at_the_thumbnail])


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "BMP", "PPM"])
def test_other_formats_that_are_cut_off_are_named(header, form):
    data = saved(form, Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)))
    assert header(data).width == 90
    for share in (0.2, 0.5, 0.9, 0.99):
        with pytest.raises(ImageError, match="truncated|cut off|where its pixels are"):
            header(data[: int(share * len(data))])


def test_every_kind_of_png(header):
    rows = [bytes(4 * 8)] * 4
    for bits, colour, channels, told in [
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
    ]:
        assert header(png(rows, width=4, height=4, bits=bits, colour=colour)) == ImageHeader(
            4, 4, 1, "PNG", channels, told
        )


def test_exif_data_behind_the_pixels_of_a_png_counts_and_pixels_that_look_like_it_do_not(header):
    assert header(png_of(RGB, after=chunk(b"eXIf", exif(8)))).orientation == 8
    assert header(png_of(RGB, after=chunk(b"tEXt", b"eXIf" + exif(8)))).orientation == 1
    assert header(png_of(RGB, before=chunk(b"iCCP", bytes(3 * BLOCK)) + chunk(b"eXIf", exif(6)))).orientation == 6


@pytest.mark.parametrize(
    "form, more", [("WEBP", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("BMP", {}), ("PPM", {})]
)
def test_formats_that_are_rarer(header, form, more):
    got = header(saved(form, **more))
    assert (got.height, got.width, got.format, got.channels, got.bits) == (HEIGHT, WIDTH, form, 3, 8)


def test_animations_are_their_first_picture(header):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for form in ("GIF", "WEBP", "PNG"):
        got = header(saved(form, frames[0], save_all=True, append_images=frames[1:]))
        assert (got.height, got.width, got.format) == (HEIGHT, WIDTH, form)


@pytest.mark.parametrize(
    "kind, bands", [("u2", 1), ("u2", 3), ("u2", 4), ("i2", 1), ("f4", 1), ("f4", 5), ("f8", 3), ("f2", 2), ("u1", 7)]
)
def test_bands_and_depth_of_a_tiff(header, kind, bands):
    data = tiff(picture(dtype=kind, bands=bands))
    assert header(data) == ImageHeader(HEIGHT, WIDTH, 1, "TIFF", bands, 8 * np.dtype(kind).itemsize, kind[0] == "f")
    assert header(tiff(picture(dtype=kind, bands=bands), big=True, order=">")) == header(data)


def test_deep_netpbm(header):
    assert header(b"P5 3 2 4095\n" + bytes(12)).bits == 16
    assert header(b"P2\n# text\n3 2\n9\n" + b"1 " * 6).channels == 1


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "empty"), (b"\xff\xd8", "truncated"), (b"\xff\xd8\xff\xd9", "no picture|truncated"), (b"\xff\xd8" + bytes(90_000), "broken"),
        (b"\xff\xd8" + segment(0xDA, bytes(8)), "no size"), (b"\xff\xd8" + segment(0xC0, b"\x0c\0\x10\0\x10\x03") + segment(0xDA, bytes(8)), "12 bits"),
        (b"\xff\xd8" + segment(0xC0, b"\x08\0\0\0\x10\x03") + segment(0xDA, bytes(8)), "16x0"), (b"\x89PNG\r\n\x1a\n", "no header"),
        (png([], width=0, height=7, bits=8, colour=0), "0x7"), (b"RIFF\x10\0\0\0WEBPnone", "no picture"), (b"II*\0\x08\0\0\0", "cut off"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9", "EPS"), (b"version https://git-lfs.github.com/spec/v1", "Git LFS"), (b"<html>404", "web page"),
        (b"just text", "no image"), (b"BM" + bytes(60), "cannot be read"), (b"GIF89a", "cannot be read"), (b"P6 -1 5 255\n", "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_named(header, data, message):
    with pytest.raises(ImageError, match=message):
        header(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM"])
def test_an_image_of_more_pixels_than_the_key_allows_is_refused_by_its_name(header, form):
    data = saved(form)
    assert header(data, max_pixels=600).width == 30
    with pytest.raises(ImageError, match="30x20, 600 pixels; INPUT.MAX_IMAGE_PIXELS allows 599"):
        header(data, max_pixels=599)


def test_a_decompression_bomb_is_refused_without_reading_it_and_pillows_limit_is_not_asked(header):
    bomb = png([bytes(10)], width=60_000, height=60_000, bits=1, colour=0)
    with pytest.raises(ImageError, match="3,600,000,000 pixels"):
        header(bomb)
    large = b"P4 20000 20000\n"
    assert header(large, end=False, max_pixels=10**9).width == 20_000
    assert Image.MAX_IMAGE_PIXELS, "the limit of others stays"


def test_the_size_of_a_png_is_read_without_its_pixels(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8))
    with ImageFile(tmp_path / "x.png") as image:
        read = []
        os_read, image.read = image.read, lambda offset, count: read.append(count) or os_read(offset, count)
        image._read_header()
    assert sum(read) < 3 * BLOCK < (tmp_path / "x.png").stat().st_size


def test_a_disk_that_does_not_answer_is_an_image_error(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(png_of(RGB))
    monkeypatch.setattr(os, "pread", lambda *args: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(ImageError, match="Input/output error"):
        ImageFile(tmp_path / "x.png")


def test_files_are_closed_whatever_happens(tmp_path):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for number, data in enumerate((b"", b"text", png_of(RGB), jpeg(RGB)[:50], saved("GIF"), saved("GIF")[:20])):
        (tmp_path / str(number)).write_bytes(data)
        try:
            with ImageFile(tmp_path / str(number)) as image:
                image.check_end()
        except ImageError:
            pass
    assert not before or len(os.listdir("/proc/self/fd")) == before


def test_broken_bytes_are_image_errors_and_nothing_else(header):
    rng = np.random.default_rng(0)
    wholes = [
        after_soi(jpeg(RGB), segment(0xE1, b"Exif\0\0" + exif(6))),
        png_of(RGB, before=chunk(b"eXIf", exif(6))),
        saved("WEBP", exif=exif(6)),
        tiff(RGB),
        saved("GIF"),
        saved("BMP"),
        saved("PPM"),
    ]
    for whole in wholes:
        for _ in range(150):
            data = bytearray(whole[: rng.integers(1, len(whole) + 1)])
            for at in rng.integers(0, min(len(data), 120), rng.integers(0, 5)):
                data[at] = rng.integers(0, 256)
            try:
                got = header(bytes(data))
            except ImageError:
                continue
            assert got.height >= 1 and got.width >= 1 and 1 <= got.orientation <= 8


def test_webp_exif_behind_many_parts_is_found(header):
    data = saved("WEBP", exif=exif(6))
    at = data.index(b"VP8 ")
    longer = data[:at] + b"ICCP" + struct.pack("<I", 5001) + bytes(5002) + data[at:]
    assert header(longer[:4] + struct.pack("<I", len(longer) - 8) + longer[8:]).orientation == 6
