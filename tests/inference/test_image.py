"""Values that are clearly an image are accepted; all others are refused with what was expected."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from retina_plugin.data.pixels import PixelRange
from retina_plugin.inference.image import as_image

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
GRAY = PICTURE[:, :, 0]


GRAY_BGR = np.dstack([GRAY] * 3)


@pytest.mark.parametrize(
    "value, want",
    [
        (PICTURE, PICTURE),
        (GRAY, GRAY_BGR),
        (GRAY[:, :, None], GRAY_BGR),
        (np.dstack([PICTURE, GRAY]), PICTURE),
        (PICTURE.astype(np.float32), PICTURE),
        (PICTURE.astype(np.float64) + 0.25, PICTURE),
        (PICTURE.astype(np.int64), PICTURE),
        (PICTURE.astype(np.uint16), PICTURE),
        (PICTURE[:, ::-1], PICTURE[:, ::-1]),
        (Image.fromarray(PICTURE[:, :, ::-1].copy()), PICTURE),
        (Image.fromarray(GRAY), GRAY_BGR),
        (np.zeros((4, 4, 3)), np.zeros((4, 4, 3))),
        (np.ones((4, 4)), np.ones((4, 4, 3))),
    ],
)
def test_arrays_and_pillow_images(value, want):
    found = as_image(value if not isinstance(value, np.ndarray) or value.max() <= 255 else np.minimum(value, 255))
    assert found.dtype == np.uint8 and found.shape == want.shape and found.flags.c_contiguous
    np.testing.assert_array_equal(found, want)


def test_files_as_text_and_as_paths(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE)
    for value in (tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(as_image(value), PICTURE)
    for mode in ("P", "L", "RGBA", "CMYK", "1"):
        assert as_image(Image.fromarray(PICTURE).convert(mode)).shape == (20, 30, 3)


@pytest.mark.parametrize(
    "value, error, message",
    [
        (None, TypeError, "cv2.imread returns it"),
        (PICTURE.transpose(2, 0, 1), ValueError, "put the channels last"),
        (PICTURE[None], ValueError, "the images of a batch one by one"),
        (np.zeros((0, 50, 3), np.uint8), ValueError, "no pixels"),
        (PICTURE / 255, ValueError, "multiply by 255"),
        (PICTURE * 256.0, ValueError, "divide by 257"),
        (np.full((4, 4, 3), np.nan), ValueError, "values from nan"),
        (np.full((4, 4, 3), -1), ValueError, "from -1"),
        (torch.zeros(3, 4, 4), TypeError, "type Tensor is not an image"),
        (b"bytes", TypeError, "type bytes is not an image"),
        (7, TypeError, "type int is not an image"),
        ({}, TypeError, "type dict is not an image"),
        (PICTURE > 3, TypeError, "an array of bool is not an image"),
        (np.array("x"), TypeError, "an array of <U1 is not an image"),
        (np.zeros((4, 4, 5), np.uint8), ValueError, "shape (4, 4, 5)"),
        (np.zeros(7, np.uint8), ValueError, "shape (7,)"),
        (np.zeros((4, 4, 3), complex), TypeError, "complex"),
        (np.zeros((4, 4, 3), object), TypeError, "object"),
        ("nowhere.png", FileNotFoundError, "nowhere.png"),
        (Path("."), FileNotFoundError, "image file . does not exist"),
    ],
)
def test_values_that_are_not_images_are_refused(value, error, message):
    with pytest.raises(error) as raised:
        as_image(value)
    assert message in str(raised.value)


def test_file_that_is_not_an_image_is_named(tmp_path):
    (tmp_path / "x.png").write_text("text")
    with pytest.raises(ValueError, match="x.png cannot be read as an image"):
        as_image(tmp_path / "x.png")


def test_values_of_more_than_8_bits_are_scaled_by_the_models_range(tmp_path):
    deep = (PICTURE.astype(np.uint16) + 7) * 10  # 70 to 2620
    value_range = PixelRange(70, 2620)
    np.testing.assert_array_equal(as_image(deep, value_range=value_range), PICTURE)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    np.testing.assert_array_equal(as_image(tmp_path / "a.png", value_range=value_range), PICTURE)
    np.testing.assert_array_equal(as_image(PICTURE, value_range=value_range), PICTURE)


def test_file_with_more_pixels_than_allowed_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE)
    with pytest.raises(ValueError, match="INPUT.MAX_IMAGE_PIXELS allows 599"):
        as_image(tmp_path / "a.png", max_pixels=599)
