"""Open image files: complete or truncated, too large, broken, and always closed; the headers are tested by format."""

import contextlib
import os

import cv2
import numpy as np
import pytest
from pictures import after_soi, chunk, exif, jpeg, picture, png, png_of, saved, segment, tiff
from PIL import Image

from retina_plugin.data.image_headers import BLOCK, ImageFile
from retina_plugin.data.strangers_files import ImageError

HEIGHT, WIDTH = 20, 30
RGB = picture(HEIGHT, WIDTH)


@pytest.fixture()
def header(tmp_path):
    """Return the header of a file with the given bytes, after checking its end."""

    def read(data, *, end=True, **options):
        (tmp_path / "x").write_bytes(data)
        with ImageFile(tmp_path / "x", **options) as image:
            if end:
                image.check_end()
            return image.header

    return read


@pytest.mark.parametrize(
    "after",
    [
        b"",
        b"\0" * 10_000,
        b"\0\0\0\x18ftypmp42" + bytes(2_000_000) + b"\xff\xd9" + bytes(2_000_000),
        np.random.default_rng(0).bytes(3_000_000),
    ],
)
def test_data_after_the_end_of_a_jpeg_is_ignored(tmp_path, after):
    data = jpeg(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    (tmp_path / "x").write_bytes(data + after)
    with ImageFile(tmp_path / "x") as image:
        assert image.jpeg_end() in (len(data), len(data + after)), "or the file happens to end like a JPEG"
        assert (image.header.height, image.header.width) == (200, 300)


@pytest.mark.parametrize("noise", [40, 400])
def test_a_jpeg_truncated_anywhere_is_reported(header, noise):
    thumbnail = segment(0xE1, b"Exif\0\0" + exif(1) + jpeg(RGB))
    data = after_soi(jpeg(np.random.default_rng(0).integers(0, 256, (noise, noise, 3), dtype=np.uint8)), thumbnail)
    for share in np.linspace(0.001, 0.999, 40):
        with pytest.raises(ImageError, match="is truncated|no end|not an image"):
            header(data[: max(3, int(share * len(data)))])
    at_the_thumbnail = data.index(b"\xff\xd9") + 2
    with pytest.raises(ImageError, match="truncated"):
        header(data[:at_the_thumbnail])


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "BMP", "PPM"])
def test_truncated_files_of_other_formats_are_reported(header, form):
    data = saved(form, np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))
    assert header(data).width == 90
    for share in (0.2, 0.5, 0.9, 0.99):
        with pytest.raises(ImageError, match="truncated|cut off|where its pixels are"):
            header(data[: int(share * len(data))])


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9", "EPS"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"<html>404", "web page"),
        (b"just text", "not an image"),
        (b"BM" + bytes(60), "cannot be read"),
        (b"GIF89a", "cannot be read"),
        (b"P6 -1 5 255\n", "cannot be read"),
    ],
)
def test_files_that_are_not_images_are_reported(header, data, message):
    with pytest.raises(ImageError, match=message):
        header(data)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM"])
def test_an_image_with_more_pixels_than_the_config_allows_is_refused(header, form):
    data = saved(form)
    assert header(data, max_pixels=600).width == 30
    with pytest.raises(ImageError, match="30x20, 600 pixels; INPUT.MAX_IMAGE_PIXELS allows 599"):
        header(data, max_pixels=599)


def test_a_decompression_bomb_is_refused_by_our_limit_not_pillows(header):
    bomb = png([bytes(10)], width=60_000, height=60_000, bits=1, colour=0)
    with pytest.raises(ImageError, match="3,600,000,000 pixels"):
        header(bomb)
    large = b"P4 20000 20000\n"
    assert header(large, end=False, max_pixels=10**9).width == 20_000
    assert Image.MAX_IMAGE_PIXELS, "Pillow's limit is restored"


def test_the_size_of_a_png_is_read_without_its_pixels(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8))
    with ImageFile(tmp_path / "x.png") as image:
        read = []
        os_read, image.read = image.read, lambda offset, count: read.append(count) or os_read(offset, count)
        image._read_header()
    assert sum(read) < 3 * BLOCK < (tmp_path / "x.png").stat().st_size


def test_a_disk_error_is_an_image_error(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(png_of(RGB))
    monkeypatch.setattr(os, "pread", lambda *args: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(ImageError, match="Input/output error"):
        ImageFile(tmp_path / "x.png")


def test_files_are_closed_even_after_errors(tmp_path):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for number, data in enumerate((b"", b"text", png_of(RGB), jpeg(RGB)[:50], saved("GIF"), saved("GIF")[:20])):
        (tmp_path / str(number)).write_bytes(data)
        with contextlib.suppress(ImageError), ImageFile(tmp_path / str(number)) as image:
            image.check_end()
    assert not before or len(os.listdir("/proc/self/fd")) == before


def test_broken_bytes_raise_image_errors_only(header):
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
