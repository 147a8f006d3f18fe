"""Conversion of a predictor's input (arrays, files, Pillow images) to an image."""

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from retina_plugin.data.image_files import MAX_IMAGE_PIXELS
from retina_plugin.data.pixels import PixelRange, read_image

EXPECTED = (
    "expected an array (H, W, 3) of uint8, 0-255, channels blue, green, red, as cv2.imread returns it; "
    "or the path of a file; or a Pillow image"
)


def as_image(value: object, *, value_range: PixelRange | None = None, max_pixels: int = MAX_IMAGE_PIXELS) -> np.ndarray:
    """Convert a value to an image (H, W, 3) uint8, BGR.

    Accepted are paths of files, Pillow images (rotated as their EXIF data says), and arrays (H, W), (H, W, 1),
    (H, W, 3) and (H, W, 4) (blue, green, red and alpha, which is dropped), of integers from 0 to 255, or of floats,
    which are rounded.

    Args:
        value: the image.
        value_range: INPUT.VALUE_RANGE of the model: files and arrays of more than 8 bits are scaled by it, as in
            training.
        max_pixels: INPUT.MAX_IMAGE_PIXELS, for files.

    Raises:
        TypeError: the value is of no accepted type, for example None, which cv2.imread returns if it cannot read a
            file.
        ValueError: the value is ambiguous or empty: channels first, values from 0 to 1, no pixels.
        FileNotFoundError: the file does not exist.
    """
    if value is None:
        raise TypeError(
            f"None is not an image; cv2.imread returns it for a file that does not exist or is not an image; {EXPECTED}"
        )
    if isinstance(value, str | os.PathLike):
        return _read(Path(value), value_range, max_pixels)
    if isinstance(value, Image.Image):
        return np.ascontiguousarray(np.asarray(ImageOps.exif_transpose(value).convert("RGB"))[:, :, ::-1])
    if not isinstance(value, np.ndarray):
        raise TypeError(f"an object of type {type(value).__name__} is not an image; {EXPECTED}")
    return _three_channels(_bytes(value, value_range))


def _read(file: Path, value_range: PixelRange | None, max_pixels: int) -> np.ndarray:
    """Read a file as (H, W, 3) uint8, BGR."""
    if not file.is_file():
        raise FileNotFoundError(f"image file {file} does not exist")
    try:
        return read_image(str(file), "BGR", value_range=value_range, max_pixels=max_pixels)
    except (OSError, ValueError, cv2.error) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from error


def _bytes(array: np.ndarray, value_range: PixelRange | None) -> np.ndarray:
    """Return an array of any shape as uint8."""
    if array.size == 0:
        raise ValueError(f"an image of shape {array.shape} has no pixels; {EXPECTED}")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf":
        raise TypeError(f"an array of {array.dtype} is not an image; {EXPECTED}")
    if value_range is not None and array.dtype.itemsize > 1:
        return value_range.scale(array)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 255):  # also if they are NaN
        raise ValueError(
            f"the image has values from {low:g} to {high:g}; {EXPECTED}. "
            "Scale 16-bit images to 0-255 first (divide by 257)"
        )
    if array.dtype.kind == "f":
        if high <= 1 and np.any(array != np.round(array)):
            raise ValueError(
                f"the image has values from {low:g} to {high:g}: if its range is 0 to 1, multiply by 255; {EXPECTED}"
            )
        array = np.round(array)
    return array.astype(np.uint8)


def _three_channels(array: np.ndarray) -> np.ndarray:
    """Return an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as (H, W, 3)."""
    if array.ndim == 2:
        return cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_GRAY2BGR)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ValueError(f"an array of shape {array.shape} is not an image{_shape_hint(array)}; {EXPECTED}")
    if array.shape[2] == 1:
        return cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(array[:, :, :3])


def _shape_hint(array: np.ndarray) -> str:
    """Return how to convert an array (C, H, W) or (N, H, W, C) to images, for a message; empty for any other shape."""
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return ": put the channels last, image.transpose(1, 2, 0)"
    return ": pass the images of a batch one by one, or as a list" if array.ndim == 4 else ""
