"""What people hand to a predictor, as an image."""

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from retina_plugin.data.image_files import MAX_IMAGE_PIXELS
from retina_plugin.data.pixels import PixelRange, read_image

EXPECTED = "an image is an array (H, W, 3) of uint8, 0-255, in the order blue, green, red, as cv2.imread gives it; or a file, or a Pillow image"


def as_image(value: object, *, value_range: PixelRange | None = None, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """The image that a value means: (H, W, 3) uint8, BGR.

    Taken are files, Pillow's images (turned as their EXIF data says), and arrays (H, W), (H, W, 1), (H, W, 3) and (H, W, 4)
    (blue, green, red and alpha, which is left out) of whole numbers or of floats from 0 to 255, which are rounded.

    Args:
        value: see above.
        value_range: INPUT.VALUE_RANGE of the model: files and arrays of more than 8 bits are scaled by it, as in training.
        max_pixels: INPUT.MAX_IMAGE_PIXELS, for files.

    Raises:
        TypeError: it is nothing of these, for instance None, which cv2.imread returns for a file that it cannot read.
        ValueError: it could mean several things, or nothing: channels first, values from 0 to 1, no pixels.
        FileNotFoundError: there is no such file.
    """
    if value is None:
        raise TypeError(
            f"None is no image; cv2.imread returns it for a file that is not there or not an image. {EXPECTED}"
        )
    if isinstance(value, str | os.PathLike):
        return _read(Path(value), value_range, max_pixels)
    if isinstance(value, Image.Image):
        return np.ascontiguousarray(np.asarray(ImageOps.exif_transpose(value).convert("RGB"))[:, :, ::-1])
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__} is no image; {EXPECTED}")
    return _three_channels(_bytes(value, value_range))


def _read(file: Path, value_range: PixelRange | None, max_pixels: int) -> np.ndarray:
    if not file.is_file():
        raise FileNotFoundError(f"there is no image file {file}")
    try:
        return read_image(str(file), "BGR", value_range=value_range, max_pixels=max_pixels)
    except (OSError, ValueError, cv2.error) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from error


def _bytes(array: np.ndarray, value_range: PixelRange | None) -> np.ndarray:
    """The values as uint8."""
    if array.size == 0:
        raise ValueError(f"an image of shape {array.shape} has no pixels; {EXPECTED}")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf":
        raise TypeError(f"an array of {array.dtype} is no image; {EXPECTED}")
    if value_range is not None and array.dtype.itemsize > 1:
        return value_range.scale(array)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 255):  # false for NaN, too
        raise ValueError(
            f"the image has values from {low:g} to {high:g}; {EXPECTED}. Bring 16-bit images to 0-255 first (divide by 257)"
        )
    if array.dtype.kind == "f":
        if high <= 1 and np.any(array != np.round(array)):
            raise ValueError(
                f"the image has values from {low:g} to {high:g}: if they are meant from 0 to 1, multiply by 255. {EXPECTED}"
            )
        array = np.round(array)
    return array.astype(np.uint8)


def _three_channels(array: np.ndarray) -> np.ndarray:
    if array.ndim == 2:
        return cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_GRAY2BGR)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = (
            ": channels come last, image.transpose(1, 2, 0)"
            if first
            else "; of a batch give one image after another, or a list"
            if array.ndim == 4
            else ""
        )
        raise ValueError(f"an array of shape {array.shape} is no image{hint}; {EXPECTED}")
    if array.shape[2] == 1:
        return cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(array[:, :, :3])
