"""Listing image files, their sizes, and reading the headers of many."""

import os
import time

import numpy as np
import pytest
from pictures import exif, jpeg, picture, png_of, segment, tiff
from PIL import Image

from retina_plugin.data import image_files
from retina_plugin.data.image_files import ImageHeader, defect_of, list_images, look_at, read_header, size_of


def test_the_size_of_a_rotated_image_is_as_displayed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save(tmp_path / "plain.jpg")
    assert size_of(str(tmp_path / "turned.jpg")) == (30, 20) and size_of(str(tmp_path / "plain.jpg")) == (20, 30)


def test_a_file_that_is_not_an_image_is_an_os_error(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(OSError):
        size_of(tmp_path / "text.jpg")


def test_images_are_listed_sorted_and_by_their_suffix(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.PNG", "1.jpeg", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["1.jpeg", "2.PNG"]


@pytest.fixture()
def odd_folder(tmp_path):
    """Return a folder with one unusable file of each kind, and three usable ones."""
    (tmp_path / "a.jpg").write_bytes(jpeg(picture()))
    (tmp_path / "b.png").write_bytes(png_of(picture(10, 11, bands=4)))
    (tmp_path / "c.tif").write_bytes(tiff(picture(dtype="f4", bands=5), orientation=6))
    (tmp_path / "empty.png").touch()
    (tmp_path / "half.jpg").write_bytes(jpeg(picture())[:300])
    (tmp_path / "text.png").write_text("no image")
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "null.png").symlink_to("/dev/null")
    return tmp_path


def test_look_at_returns_headers_or_reasons_in_order_without_blocking(odd_folder):
    files = list_images(odd_folder)
    started, seen = time.monotonic(), []
    looks = dict(zip((file.name for file in files), look_at(files, progress=seen.append), strict=True))
    assert time.monotonic() - started < 5 and sum(seen) == len(files) == 10
    assert looks["a.jpg"] == ImageHeader(20, 30, 1, "JPEG", 3, 8)
    assert looks["b.png"] == ImageHeader(10, 11, 1, "PNG", 4, 8)
    assert looks["c.tif"] == ImageHeader(30, 20, 6, "TIFF", 5, 32, True)
    reasons = {
        "empty": "empty",
        "half": "truncated",
        "text": "not an image",
        "fifo": "FIFO",
        "nowhere": "link to nothing",
        "loop": "link that leads to itself",
        "null": "device",
    }
    for name, reason in reasons.items():
        (look,) = [look for file, look in looks.items() if file.startswith(f"{name}.")]
        assert isinstance(look, str) and reason in look, name
    for file in files:
        assert defect_of(file) == (None if isinstance(looks[file.name], ImageHeader) else looks[file.name])


@pytest.mark.parametrize("workers", [None, 1, 2, 5])
def test_the_result_does_not_depend_on_the_number_of_threads(odd_folder, monkeypatch, workers):
    monkeypatch.setattr(image_files, "PART", 3)
    files = list_images(odd_folder) * 4
    assert look_at(files, workers=workers) == look_at(files[:10], workers=1) * 4
    assert look_at([], workers=workers) == []


def test_a_slow_disk_is_read_by_many_threads(odd_folder, monkeypatch):
    monkeypatch.setattr(image_files, "PART", 2)
    original, asked = image_files._look, []
    monkeypatch.setattr(image_files, "_look", lambda *args: time.sleep(0.02) or asked.append(1) or original(*args))
    files = [odd_folder / "a.jpg"] * 82
    started = time.monotonic()
    assert look_at(files) == [read_header(files[0])] * 82 and len(asked) == 82
    assert time.monotonic() - started < 0.8, "with one thread it takes 1.6 s"


def test_the_limit_of_pixels_applies_to_every_function(odd_folder):
    assert "INPUT.MAX_IMAGE_PIXELS" in look_at([odd_folder / "a.jpg"], max_pixels=599)[0]
    assert "INPUT.MAX_IMAGE_PIXELS" in defect_of(odd_folder / "a.jpg", max_pixels=599)
    with pytest.raises(OSError, match="INPUT.MAX_IMAGE_PIXELS"):
        read_header(odd_folder / "a.jpg", max_pixels=599)


def test_the_end_of_a_thumbnail_is_not_the_end_of_a_jpeg(tmp_path):
    data = jpeg(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8))
    data = data[:2] + segment(0xE1, b"Exif\0\0" + exif(1) + jpeg(picture(8, 8))) + data[2:]
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    assert len(data) // 2 < 4096 and "truncated" in defect_of(tmp_path / "half.jpg")


def test_links_to_folders_are_followed_once_and_folders_are_not_listed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "set" / "x.png").mkdir(parents=True)
    (tmp_path / "real" / "1.JPG").touch()
    (tmp_path / "set" / "train").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(tmp_path / "set")
    assert list_images(tmp_path / "set") == [tmp_path / "set" / "train" / "1.JPG"]
    assert list_images(tmp_path / "absent") == []


def test_twenty_thousand_headers_are_read_in_seconds(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)))
    files = [str(tmp_path / "a.jpg")] * 20_000
    started = time.process_time()
    assert len(set(look_at(files))) == 1
    assert time.process_time() - started < 5, "118,287 files should take 10 s; this is three times as much"
