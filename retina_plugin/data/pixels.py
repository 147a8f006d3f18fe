"""Reads image files as displayed, as three channels of 0..255; one range per dataset scales deep images."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from retina_plugin.data import tiff
from retina_plugin.data.image_files import look_at
from retina_plugin.data.image_headers import MAX_IMAGE_PIXELS, ImageFile, ImageHeader
from retina_plugin.data.pillow_files import open_with_pillow
from retina_plugin.data.strangers_files import ImageError

if TYPE_CHECKING:  # an exported model is run without detectron2
    from detectron2.config import CfgNode

REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV's flag for decoding a JPEG at a fraction of its size."""

OPENCVS = ("JPEG", "PNG", "BMP", "WEBP")
"""Formats that OpenCV decodes like Pillow, but faster."""

SAMPLED_IMAGES, SAMPLED_VALUES = 256, 65_536
"""Number of images of a dataset, and of values per image, both evenly spaced, that determine the range."""

LOWEST, HIGHEST = 0.01, 99.99
"""Percentiles of the sampled values that become 0 and 255; a few dead or hot pixels per image have no effect."""


@dataclass(frozen=True)
class PixelRange:
    """The values of deep images (more than 8 bits, or floats) that become 0 and 255; values outside are clipped.

    Args:
        low, high: finite, low < high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ValueError(
                f"INPUT.VALUE_RANGE must be (low, high), finite, with low < high; got ({self.low}, {self.high})"
            )

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Scale values of any shape to uint8; NaN becomes 0."""
        exact = np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64
        finite = np.nan_to_num(values.astype(exact), nan=self.low, posinf=self.high, neginf=self.low)
        scaled = (finite - exact(self.low)) * exact(255 / (self.high - self.low))
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def value_range_of(cfg: "CfgNode") -> PixelRange | None:
    """Return INPUT.VALUE_RANGE; None if it is empty.

    Raises:
        ValueError: it is not a pair of numbers.
    """
    values = cfg.INPUT.VALUE_RANGE
    if len(values) not in (0, 2):
        raise ValueError(f"INPUT.VALUE_RANGE must be empty or (low, high); got {values}")
    return PixelRange(float(values[0]), float(values[1])) if values else None


def pixel_range_of(
    files: Sequence[str | os.PathLike],
    *,
    headers: Sequence[ImageHeader | str] | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> PixelRange | None:
    """Return the range of the deep images of a dataset, from the percentiles of their values; None if none is deep.

    ``SAMPLED_IMAGES`` of the deep images are decoded, evenly spaced in the order of ``files``, and ``SAMPLED_VALUES``
    values of each are counted. Images that cannot be read are skipped; :func:`look_at` reports them.

    Args:
        files: paths.
        headers: what :func:`look_at` returned for them; None calls it.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.

    Raises:
        ValueError: some images have floats and others whole numbers, so that no range suits both.
    """
    headers = look_at(files, max_pixels=max_pixels) if headers is None else headers
    deep = [
        (file, header)
        for file, header in zip(files, headers, strict=True)
        if isinstance(header, ImageHeader) and is_deep(header)
    ]
    kinds = {header.is_float: file for file, header in deep}
    if len(kinds) > 1:
        raise ValueError(
            f"{kinds[True]} has floats and {kinds[False]} whole numbers: no INPUT.VALUE_RANGE suits both; "
            "convert the images of one type to the other"
        )
    samples = [np.empty(0)]
    for i in np.linspace(0, len(deep) - 1, min(len(deep), SAMPLED_IMAGES)).round().astype(int):
        try:
            with ImageFile(deep[i][0], max_pixels=max_pixels) as image:
                values = _deep_values(image).ravel()
        except ImageError:  # look_at has reported it
            continue
        values = values[:: -(-values.size // SAMPLED_VALUES)].astype(np.float64)
        samples.append(values[np.isfinite(values)])
    sampled = np.concatenate(samples)
    if not sampled.size:
        return None
    low, high = (float(v) for v in np.percentile(sampled, [LOWEST, HIGHEST]))
    return PixelRange(low, high if high > low else low + 1)


def is_deep(header: ImageHeader) -> bool:
    """Return whether the values of an image need a range to become 0..255."""
    return header.bits > 8 or header.is_float


def read_image(
    file: str | os.PathLike,
    image_format: str,
    *,
    reduce: int = 1,
    value_range: PixelRange | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
    reader: str = "opencv",
) -> np.ndarray:
    """Read an image as displayed.

    Args:
        file: path.
        image_format: "BGR" or "RGB"; or one of Detectron2's others ("L", "YUV-BT.601", ...).
        reduce: 1, 2, 4 or 8; a JPEG is decoded at that fraction of its size, which is much faster; ignored for others.
        value_range: the values that become 0..255 in images of more than 8 bits; None takes all of uint16. Images of
            8 bits are not scaled.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.
        reader: INPUT.READER; "detectron2" decodes with Pillow, as Detectron2 does.

    Returns:
        (h, w, 3) uint8. A single band is repeated; of more than three bands the first three are used, of an animation
        the first frame.

    Raises:
        ImageError: the file is not an image, too large, or broken.
        ImageNotFoundError: it does not exist.
        ValueError: the values need a range and ``value_range`` is None.
    """
    with ImageFile(file, max_pixels=max_pixels) as image:
        return decode(image, image_format, reduce=reduce, value_range=value_range, reader=reader)


def build_reader(cfg: "CfgNode", image_format: str | None = None) -> Callable[[str], np.ndarray]:
    """Return :func:`read_image` as a function of the file only, with the INPUT keys of a config.

    Args:
        cfg: the config.
        image_format: replaces INPUT.FORMAT.
    """
    return partial(
        read_image,
        image_format=image_format or cfg.INPUT.FORMAT,
        value_range=value_range_of(cfg),
        max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS,
        reader=cfg.INPUT.READER,
    )


def decode(
    image: ImageFile,
    image_format: str,
    *,
    reduce: int = 1,
    value_range: PixelRange | None = None,
    reader: str = "opencv",
) -> np.ndarray:
    """Decode the pixels of an open file, see :func:`read_image`.

    Raises:
        ImageError: the pixels are broken, or not of the size that the header states.
        ValueError: the values need a range and ``value_range`` is None.
    """
    header, plain = image.header, image_format in ("BGR", "RGB")
    is_cmyk = header.channels == 4 and header.format == "JPEG"
    if header.format == "TIFF" or is_deep(header) or is_cmyk or not plain:
        reduce, reader = 1, "detectron2"
    pixels = None
    if _has_bands(header, image):
        pixels = _from_bands(image, image_format, value_range)
    elif reader == "opencv" and header.format in OPENCVS:
        pixels = _with_opencv(image, image_format, reduce if header.format == "JPEG" else 1)
    if pixels is None:
        pixels = _with_pillow(image, image_format)
        reduce = 1
    if reduce == 1 and pixels.shape[:2] != (header.height, header.width):
        stated, got = f"{header.width}x{header.height}", f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise image.broken(f"cannot be read: its header states {stated}, but its pixels are {got}")
    return pixels


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror stored pixels (h, w, ...) as displayed, for an EXIF orientation 1..8.

    Source: Exif 2.3, section 4.6.4 (the edges of the image that row 0 and column 0 are).
    """
    if orientation >= 5:
        pixels = cv2.transpose(pixels)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if flip is None else cv2.flip(pixels, flip)


def to_three(pixels: np.ndarray) -> np.ndarray:
    """Return the first three of (h, w, bands), or the first one repeated if there are fewer: a second one is alpha."""
    return pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)


def _from_bands(image: ImageFile, image_format: str, value_range: PixelRange | None) -> np.ndarray:
    """Return the 8-bit pixels (h, w, 3) of a file that is read in its own type."""
    values = to_three(_as_bytes(image, _deep_values(image), value_range))
    rgb = turn(np.ascontiguousarray(values), image.header.orientation)
    if image_format == "RGB":
        return rgb
    if image_format == "BGR":
        return rgb[..., ::-1]
    return _as_array(Image.fromarray(rgb), image_format)


def _with_opencv(image: ImageFile, image_format: str, reduce: int) -> np.ndarray | None:
    """Decode the 8-bit pixels (h, w, 3) with OpenCV; None if it cannot."""
    header = image.header
    image.check_end()
    if header.format == "JPEG":
        data = image.read(0, image.jpeg_end())
    else:
        data = image.png_bytes() if header.format == "PNG" else image.whole()
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), REDUCED[reduce] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # limits of OpenCV; Pillow reports what is wrong, if anything is
        return None
    if pixels is None:
        return None
    pixels = turn(pixels, header.orientation)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if image_format == "RGB" else pixels


def _with_pillow(image: ImageFile, image_format: str) -> np.ndarray:
    """Decode the 8-bit pixels (h, w, ...) of files that OpenCV cannot or shall not read with Pillow."""
    header = image.header
    image.check_end()
    with open_with_pillow(image, (header.format,)) as opened:
        orientation = header.orientation
        if isinstance(opened, TiffImageFile):
            orientation = _after_pillow(opened.tag_v2.get(tiff.ORIENTATION), orientation)
        opened.load()
        pixels = _as_array(opened, image_format)
    if orientation == 1:
        return pixels
    turned = turn(np.ascontiguousarray(pixels), orientation)
    return turned.reshape(header.height, header.width, *pixels.shape[2:])  # OpenCV drops the axis of a single channel


def _after_pillow(applied: Any, orientation: int) -> int:
    """Return the orientation to apply to a TIFF that Pillow has loaded.

    Pillow applies the value of the tag while loading, even if EXIF does not define it; that has to be undone.

    Args:
        applied: value of the tag, of any type that can be a key; 6.0 counts as 6.
        orientation: of the header, 1..8.
    """
    if applied == orientation:
        return 1
    inverse = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    return inverse.get(applied, 1)


def _has_bands(header: ImageHeader, image: ImageFile) -> bool:
    """Return whether the pixels are read in their own type: if deep, or of a TIFF that Pillow cannot read correctly."""
    is_planar = tiff.first(image.tags, tiff.PLANAR, 1) == 2
    stored_apart = is_planar and tiff.first(image.tags, tiff.COMPRESSION, 1) != tiff.JPEG
    is_8_bit_tiff = header.format == "TIFF" and header.bits == 8
    return is_deep(header) or (is_8_bit_tiff and (header.channels > 4 or stored_apart))


def _deep_values(image: ImageFile) -> np.ndarray:
    """Read (h, w, bands) in the type of the file, RGB, without applying the orientation."""
    form = image.header.format
    if form == "TIFF":
        try:
            return tiff.read_bands(image.read, image.tags)
        except tiff.TiffError as error:
            raise image.broken(f"cannot be read: {error}") from error
    if form == "PNG":
        try:
            pixels = cv2.imdecode(np.frombuffer(image.png_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            pixels = None
        if pixels is None:
            raise image.broken("cannot be read: the PNG is broken")
        return pixels[..., None] if pixels.ndim == 2 else pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    with open_with_pillow(image, (image.header.format,)) as opened:
        opened.load()
        pixels = np.asarray(opened)
    if image.header.format == "PPM" and pixels.dtype == np.int32:  # Pillow's type for 16-bit PGM
        return pixels.astype(np.uint16)[..., None]
    return pixels.reshape(*pixels.shape[:2], -1)


def _as_bytes(image: ImageFile, values: np.ndarray, value_range: PixelRange | None) -> np.ndarray:
    """Scale values of any shape to uint8.

    Raises:
        ValueError: the type of the values needs a range, and there is none.
    """
    if values.dtype == np.uint8:
        return values
    if value_range is None:
        if values.dtype != np.uint16:
            raise ValueError(
                f"{image.file} has values of type {values.dtype}, which has no default range: "
                "set INPUT.VALUE_RANGE to (low, high)"
            )
        value_range = PixelRange(0, 65535)
    return value_range.scale(values)


def _as_array(image: Image.Image, image_format: str) -> np.ndarray:
    """Return a Pillow image as (h, w, C) uint8 in a format of Detectron2."""
    if image_format in ("RGB", "BGR"):
        pixels = np.asarray(image.convert("RGB"))
        return pixels[:, :, ::-1] if image_format == "BGR" else pixels
    from detectron2.data.detection_utils import convert_PIL_to_numpy

    return convert_PIL_to_numpy(image, image_format)
