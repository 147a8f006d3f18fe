"""Pillow opens the formats it is asked to, whatever their size, and its own limit comes back."""

import pytest
from pictures import saved
from PIL import Image

from retina_plugin.data.image_headers import ImageFile
from retina_plugin.data.pillow_files import open_with_pillow
from retina_plugin.data.strangers_files import ImageError


@pytest.fixture()
def opened(tmp_path):
    """Return an open file with the given bytes."""
    files = []

    def open_file(data):
        (tmp_path / "x").write_bytes(data)
        files.append(ImageFile(tmp_path / "x"))
        return files[-1]

    yield open_file
    for file in files:
        file.close()


def test_only_the_formats_asked_for_are_opened(opened):
    file = opened(saved("GIF"))
    with open_with_pillow(file) as image:
        assert image.format == "GIF" and image.size == (30, 20)
    with pytest.raises(ImageError, match="not an image of a supported format"), open_with_pillow(file, ("BMP",)):
        pass


def test_pillows_limit_is_lifted_inside_only_even_if_nested_or_left_by_an_error(opened, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    file = opened(saved("GIF"))
    with open_with_pillow(file):
        with open_with_pillow(file) as image:
            image.load()
        assert Image.MAX_IMAGE_PIXELS is None, "the outer one is still open"
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(ImageError, match="cannot be read: broken in some way"), open_with_pillow(file):
        raise RuntimeError("broken in some way")
    assert Image.MAX_IMAGE_PIXELS == 100


def test_an_image_error_is_not_wrapped(opened):
    with pytest.raises(ImageError, match="^y is odd$"), open_with_pillow(opened(saved("BMP"))):
        raise ImageError("y", "is odd")
