"""Which files are images, and their sizes."""

import pytest
from PIL import Image

from retina_plugin.data.image_files import list_images, size_of


def test_size_of_a_turned_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save(tmp_path / "plain.jpg")
    assert size_of(str(tmp_path / "turned.jpg")) == (30, 20) and size_of(str(tmp_path / "plain.jpg")) == (20, 30)


def test_what_is_no_image_is_an_os_error(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(OSError):
        size_of(tmp_path / "text.jpg")


def test_images_are_listed_in_order_and_by_their_ending(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.PNG", "1.jpeg", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["1.jpeg", "2.PNG"]
