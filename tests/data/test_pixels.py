"""Pixels as displayed, from every kind of file, with both readers, and one range for deep images."""

import itertools
import resource
import struct
import warnings

import cv2
import numpy as np
import pytest
from pictures import after_soi, chunk, exif, jpeg, picture, png, png_of, saved, segment, tiff, turned
from PIL import Image
from support import tiny_cfg

from detectron2.data import detection_utils as utils

from retina_plugin.data.image_files import ImageError, ImageNotFoundError, look_at, size_of
from retina_plugin.data.pixels import PixelRange, build_reader, pixel_range_of, read_image, value_range_of

RGB = picture()
READERS = ("opencv", "detectron2")
VIDEO = b"\0\0\0\x18ftypmp42" + bytes(1_500_000) + b"\xff\xd9" + bytes(1_500_000)


@pytest.fixture()
def write(tmp_path):
    def write(data, name="x"):
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return write


def assert_shows(file, want, *, off=0.0, **options):
    """Assert that both readers return ``want`` (h, w, 3), as RGB and BGR, in the size that the header states."""
    for reader in READERS:
        rgb, bgr = (read_image(file, form, reader=reader, **options) for form in ("RGB", "BGR"))
        assert np.array_equal(rgb, bgr[..., ::-1]) and rgb.dtype == np.uint8
        assert rgb.shape == want.shape and rgb.shape[:2] == size_of(file), reader
        assert np.abs(rgb.astype(float) - want).mean() <= off, reader


def grey(values):
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=-1)


@pytest.mark.parametrize("orientation", [*range(10), 65535])
def test_the_orientation_is_applied_once_in_every_format_if_it_is_valid(write, orientation):
    data = exif(orientation)
    is_valid = 1 <= orientation <= 8
    want = turned(RGB, orientation if is_valid else 1)
    exact = {
        "before.png": png_of(RGB, before=chunk(b"eXIf", data)),
        "after.png": png_of(RGB, after=chunk(b"eXIf", data)),
        "a.tif": tiff(RGB, orientation=orientation),
        "planar.tif": tiff(RGB, orientation=orientation, planar=2),
        "a.webp": saved("WEBP", lossless=True, exif=data),
    }
    if is_valid:
        exact["lzw.tif"] = saved("TIFF", compression="tiff_lzw", exif=_pillow_exif(orientation))
    for name, content in exact.items():
        assert_shows(write(content, name), want)
    assert_shows(write(after_soi(jpeg(RGB), segment(0xE1, b"Exif\0\0" + data)), "a.jfif"), want, off=3)
    deep = {
        "d.tif": tiff(picture(dtype="u2"), orientation=orientation),
        "f.tif": tiff(picture(dtype="f4", bands=5), orientation=orientation),
        "d.png": png_of(picture(dtype=np.uint16), before=chunk(b"eXIf", data)),
    }
    for name, content in deep.items():
        assert_shows(write(content, name), want, off=0.5, value_range=PixelRange(0, 255))


def _pillow_exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


@pytest.mark.parametrize("kind, count", [(4, 1), (2, 2), (1, 1), (5, 1), (3, 2)])
def test_an_orientation_of_a_wrong_type_is_ignored(write, kind, count):
    data = exif(6, kind=kind, count=count)
    assert_shows(write(png_of(RGB, before=chunk(b"eXIf", data)), "a.png"), RGB)
    assert_shows(write(after_soi(jpeg(RGB), segment(0xE1, b"Exif\0\0" + data)), "a.jpg"), RGB, off=3)
    assert_shows(write(saved("WEBP", lossless=True, exif=data), "a.webp"), RGB)


@pytest.mark.parametrize("kind, count", [(1, 1), (3, 2), (4, 1), (4, 2), (11, 1), (12, 1)])
def test_an_orientation_of_a_wrong_type_is_ignored_in_tiffs(write, kind, count):
    for pixels, options in ((RGB, {}), (picture(dtype="u2"), {"value_range": PixelRange(0, 255)})):
        assert_shows(write(tiff(pixels, orientation=(kind, [6] * count)), "a.tif"), RGB, **options)


def test_every_kind_of_jpeg(write):
    noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8), (9, 9), 3)
    plain = read_image(write(jpeg(noise), "plain.jpg"), "RGB")
    thumbnail = segment(0xE1, b"Exif\0\0" + exif(1) + jpeg(RGB))
    variants = {
        "trailing zeros": jpeg(noise) + bytes(9),
        "motion photo": jpeg(noise) + VIDEO,
        "two images": jpeg(noise) + jpeg(RGB),
        "one more byte": jpeg(noise) + b"\n",
        "thumbnail": after_soi(jpeg(noise), thumbnail),
        "comment": after_soi(jpeg(noise), segment(0xFE, b"\xff\xd9\xff\xda")),
    }
    for name, data in variants.items():
        assert np.array_equal(read_image(write(data), "RGB"), plain), name
        assert_shows(write(data), noise, off=3)
    assert_shows(write(jpeg(noise, progressive=True)), noise, off=3)
    assert_shows(write(jpeg(noise, subsampling=0)), noise, off=3)
    assert_shows(write(jpeg(noise[..., 0])), grey(noise[..., 0]), off=3)
    assert read_image(write(jpeg(noise) + VIDEO), "BGR", reduce=2).shape == (30, 45, 3)


def test_both_readers_agree_on_cmyk_jpegs_inverted_or_not(write):
    ink = Image.merge("CMYK", [Image.fromarray(255 - RGB[..., i]) for i in range(3)] + [Image.new("L", (30, 20), 0)])
    inverted = jpeg(ink)  # Pillow writes Adobe's marker and, like Adobe, inverted values
    assert b"Adobe" in inverted
    assert_shows(write(inverted), RGB, off=4)
    at = inverted.index(b"Adobe") - 4
    plain = inverted[:at] + inverted[at + 2 + int.from_bytes(inverted[at + 2 : at + 4], "big") :]
    first, second = (read_image(write(plain), "BGR", reader=reader) for reader in READERS)
    assert np.array_equal(first, second)
    ycck = bytearray(inverted)
    ycck[inverted.index(b"Adobe") + 11] = 2
    first, second = (read_image(write(bytes(ycck)), "BGR", reader=reader) for reader in READERS)
    assert np.array_equal(first, second) and first.std() > 0


def test_every_kind_of_png(write):
    levels = np.arange(8) % 2
    one_bit = png([np.packbits(levels)] * 4, width=8, height=4, bits=1, colour=0)
    assert_shows(write(one_bit), grey(np.tile(levels * 255, (4, 1))))
    palette = np.array([[255, 0, 0], [0, 200, 0], [1, 2, 3], [9, 9, 9]], np.uint8)
    for clear in (b"", chunk(b"tRNS", b"\0\x80")):
        before = chunk(b"PLTE", palette.tobytes()) + clear
        data = png([bytes([0b00011011])] * 2, width=4, height=2, bits=2, colour=3, before=before)
        assert_shows(write(data), np.tile(palette, (2, 1, 1)))
    assert_shows(write(png_of(picture(bands=2))), grey(picture(bands=1)[..., 0]))
    assert_shows(write(png_of(picture(bands=4))), RGB)
    assert_shows(write(png_of(RGB, before=chunk(b"tRNS", struct.pack(">HHH", 0, 0, 0)))), RGB)
    assert_shows(write(saved("PNG", save_all=True, append_images=[Image.fromarray(255 - RGB)])), RGB)


def test_rarer_formats(write):
    assert_shows(write(saved("BMP")), RGB)
    assert_shows(write(saved("PPM")), RGB)
    assert_shows(write(saved("WEBP", lossless=True)), RGB)
    assert_shows(write(saved("WEBP", picture(bands=4), lossless=True, exact=True)), RGB)
    assert_shows(write(saved("GIF", save_all=True, append_images=[Image.fromarray(255 - RGB)])), RGB, off=8)
    assert_shows(write(b"P2 3 1 9\n0 3 9"), grey([[0, 85, 255]]))
    black_white, palette = Image.fromarray(RGB).convert("1"), Image.fromarray(RGB).convert("P")
    assert_shows(write(saved("TIFF", black_white)), grey(black_white.convert("L")))
    assert_shows(write(saved("TIFF", palette)), np.asarray(palette.convert("RGB")))
    assert_shows(write(saved("TIFF", compression="jpeg")), RGB, off=8)


@pytest.mark.parametrize("bands, planar", itertools.product((1, 2, 3, 4, 5, 7), (1, 2)))
def test_the_first_three_bands_are_used(write, bands, planar):
    want = RGB if bands >= 3 else grey(picture(bands=1)[..., 0])
    assert_shows(write(tiff(picture(bands=bands), planar=planar)), want)
    assert_shows(write(tiff(picture(bands=bands, dtype="u2"), planar=planar)), want, value_range=PixelRange(0, 255))


@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "i4", "f2", "f4", "f8"])
def test_deep_values_are_scaled_by_the_range_and_clipped(write, kind):
    values = np.array([[0, 1000, 2000, 3000, 5000]], kind)[..., None]
    file = write(tiff(values))
    assert_shows(file, grey([[0, 0, 128, 255, 255]]), value_range=PixelRange(1000, 3000))
    if kind == "u2":
        assert_shows(file, grey([[0, 4, 8, 12, 19]]))  # 255 x 5000 / 65535 = 19.5
    else:
        with pytest.raises(ValueError, match="INPUT.VALUE_RANGE") as caught:
            read_image(file, "BGR")
        assert not isinstance(caught.value, OSError), "the config is wrong, not the image"


def test_16_bit_pngs_and_netpbm_keep_their_depth(write):
    pixels = picture(dtype=np.uint16) + np.uint16(1000)
    for bands in (1, 2, 3, 4):
        deep = picture(bands=bands, dtype=np.uint16) + np.uint16(1000)
        want = picture() if bands >= 3 else grey(picture(bands=1)[..., 0])
        assert_shows(write(png_of(deep)), want, value_range=PixelRange(1000, 1255))
    data = b"P5 30 20 65535\n" + pixels[..., 0].astype(">u2").tobytes()
    assert_shows(write(data), grey(RGB[..., 0]), value_range=PixelRange(1000, 1255))


def test_nan_becomes_black_and_infinite_values_are_clipped(write):
    values = np.array([[np.nan, -np.inf, np.inf, 0.5]], np.float32)[..., None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_shows(write(tiff(values)), grey([[0, 0, 255, 128]]), value_range=PixelRange(0, 1))


def test_8_bit_images_have_no_range_and_are_not_scaled(write):
    files = [write(png_of(RGB), "a.png"), write(jpeg(RGB), "b.jpg"), write(tiff(picture(bands=5)), "c.tif")]
    assert pixel_range_of(files) is None and pixel_range_of([]) is None
    assert_shows(files[0], RGB, value_range=PixelRange(0, 1))


def test_the_range_of_12_bits_in_16_is_found_despite_hot_pixels(write):
    rng = np.random.default_rng(0)
    files = [write(png_of(RGB), "8bit.png")]
    for i in range(5):
        values = rng.integers(0, 4096, (300, 300, 1)).astype(np.uint16)
        values[rng.integers(0, 300), rng.integers(0, 300)] = 65535
        files.append(write(tiff(values) if i % 2 else png_of(values), f"{i}"))
    found = pixel_range_of([*files, "absent.png"])
    assert 0 <= found.low < 10 and 4080 < found.high < 4096
    assert pixel_range_of(files, headers=look_at(files)) == found, "the same each time"


def test_the_range_of_floats_constant_images_and_mixtures(write):
    values = np.linspace(-1, 3, 40_000, dtype=np.float32).reshape(200, 200, 1)
    values[0, 0] = np.nan
    found = pixel_range_of([write(tiff(values), "f.tif")])
    assert found.low == pytest.approx(-1, abs=0.01) and found.high == pytest.approx(3, abs=0.01)
    assert pixel_range_of([write(tiff(np.full((4, 4, 1), 7, np.uint16)), "c.tif")]) == PixelRange(7, 8)
    with pytest.raises(ValueError, match="f.tif has floats and .*c.tif whole numbers"):
        pixel_range_of([write(tiff(values), "f.tif"), write(tiff(np.full((4, 4, 1), 7, np.uint16)), "c.tif")])


@pytest.mark.parametrize("low, high", [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_an_invalid_range_is_refused(low, high):
    with pytest.raises(ValueError, match="INPUT.VALUE_RANGE"):
        PixelRange(low, high)


def test_images_are_read_as_the_config_sets(write):
    file = write(tiff(picture(dtype="f4")))
    cfg = tiny_cfg("INPUT.VALUE_RANGE", (0.0, 255.0))
    assert value_range_of(cfg) == PixelRange(0, 255) and value_range_of(tiny_cfg()) is None
    assert np.abs(build_reader(cfg, "RGB")(file).astype(float) - RGB).max() <= 1
    with pytest.raises(ImageError, match="INPUT.MAX_IMAGE_PIXELS"):
        build_reader(tiny_cfg("INPUT.MAX_IMAGE_PIXELS", 599))(file)
    for wrong in ("(1, 0)", "(1,)", "('a', 'b')"):
        with pytest.raises(ValueError, match="INPUT.VALUE_RANGE"):
            tiny_cfg("INPUT.VALUE_RANGE", wrong)


@pytest.mark.parametrize("reader, image_format", itertools.product(READERS, ("BGR", "RGB", "L", "YUV-BT.601")))
def test_broken_files_are_image_errors(write, reader, image_format):
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    thumbnail = segment(0xE1, b"Exif\0\0" + exif(1) + jpeg(RGB))
    wholes = [
        jpeg(noise),
        after_soi(jpeg(noise), thumbnail),
        jpeg(noise, progressive=True),
        png_of(noise),
        saved("BMP"),
        saved("PPM"),
        tiff(noise),
        tiff(picture(dtype="u2")),
        saved("WEBP", lossless=True),
        saved("GIF"),
    ]
    for data in [
        *(whole[: len(whole) // 2] for whole in wholes),
        b"",
        b"text",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"GIF89a" + bytes(50),
    ]:
        with pytest.raises(ImageError):
            read_image(write(data), image_format, reader=reader)
    with pytest.raises(ImageNotFoundError, match="absent"):
        read_image("absent.png", image_format, reader=reader)


def test_a_png_whose_pixels_are_broken_is_an_error_with_either_reader(write):
    data = bytearray(png_of(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)))
    data[len(data) // 2] ^= 0xFF
    for reader in READERS:
        with pytest.raises(ImageError):
            read_image(write(bytes(data)), "BGR", reader=reader)


@pytest.mark.parametrize("kind", [b"IDAT", b"PLTE", b"tEXt"])
def test_a_png_chunk_that_claims_gigabytes_is_refused_without_allocating_them(write, kind):
    data = png_of(RGB, before=chunk(kind, b"abc"))
    at = data.index(kind) - 4
    file = write(data[:at] + b"\xff" + data[at + 1 :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for reader in READERS:
        with pytest.raises(ImageError):
            read_image(file, "BGR", reader=reader)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "kilobytes"


def test_a_sparse_file_of_a_hundred_gigabytes_is_refused(write):
    for name, data in (("a.png", png_of(RGB)), ("a.bmp", saved("BMP")), ("a.jpg", jpeg(RGB)[:-2])):
        file = write(data, name)
        with open(file, "r+b") as stream:
            stream.truncate(100 << 30)  # takes no space on the disk
            stream.seek(-100, 2)
            stream.write(b"IEND")
        with pytest.raises(ImageError, match="far more than its pixels take|no end"):
            read_image(file, "BGR")


def test_images_above_pillows_limit_are_read_if_the_config_allows_them(write, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for data in (png_of(RGB), saved("GIF"), saved("TIFF"), jpeg(RGB)):
        for reader in READERS:
            assert read_image(write(data), "BGR", reader=reader).shape == (20, 30, 3)


def test_both_readers_return_detectron2s_other_formats(write):
    file = write(jpeg(picture(40, 30)))
    for image_format, reader in itertools.product(("L", "YUV-BT.601"), READERS):
        want = utils.read_image(file, format=image_format)
        assert np.array_equal(read_image(file, image_format, reader=reader), want)
    assert read_image(write(tiff(picture(dtype="u2"))), "L", value_range=PixelRange(0, 255)).shape == (20, 30, 1)


def test_file_names_in_any_script(write):
    for name in ("Größe 1.png", "画像.png", "صورة.png", "a'b [1] $x.png", "e\u0301.png"):
        assert_shows(write(png_of(RGB), name), RGB)


@pytest.mark.slow
def test_broken_bytes_are_image_errors_or_pixels_of_the_stated_size(write):
    rng = np.random.default_rng(0)
    wholes = [
        jpeg(RGB),
        png_of(RGB),
        png_of(picture(dtype=np.uint16)),
        saved("WEBP"),
        tiff(RGB),
        tiff(picture(dtype="f4", bands=5), deflate=True),
        saved("GIF"),
        saved("BMP"),
        saved("PPM"),
    ]
    for whole, _ in itertools.product(wholes, range(25)):
        data = bytearray(whole)
        for at in rng.integers(0, min(len(data), 300), rng.integers(1, 5)):
            data[at] = rng.integers(0, 256)
        file = write(bytes(data))
        for reader in READERS:
            try:
                pixels = read_image(file, "BGR", reader=reader, max_pixels=10**6, value_range=PixelRange(0, 255))
            except ImageError:
                continue
            assert pixels.shape == (*size_of(file), 3)
