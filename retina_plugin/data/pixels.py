"""From an image file to pixels 0..255: turned as displayed, three channels, deep images scaled by one range of the whole data set."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from PIL import Image

from detectron2.config import CfgNode
from detectron2.data import detection_utils as utils

from retina_plugin.data import tiff
from retina_plugin.data.image_files import look_at
from retina_plugin.data.image_headers import MAX_IMAGE_PIXELS, ImageFile, ImageHeader, open_with_pillow
from retina_plugin.data.strangers_files import ImageError

REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}

OPENCVS = ("JPEG", "PNG", "BMP", "WEBP")
"""Formats that OpenCV decodes as Pillow does, but faster."""

SAMPLED_IMAGES, SAMPLED_VALUES = 256, 65_536
"""Images of a data set, and values of each, both evenly spaced, that decide its range."""

LOWEST, HIGHEST = 0.01, 99.99
"""Percentiles of the sampled values that become 0 and 255: a few dead or hot pixels an image decide nothing."""


@dataclass(frozen=True)
class PixelRange:
    """The values of deep images (more than 8 bits, or floats) that become 0 and 255; what lies outside is clipped."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ValueError(
                f"INPUT.VALUE_RANGE must be (low, high), finite, with low < high; got ({self.low}, {self.high})"
            )

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Values of any shape as uint8; what is not a number is 0."""
        exact = np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64
        scaled = (
            np.nan_to_num(values.astype(exact), nan=self.low, posinf=self.high, neginf=self.low) - exact(self.low)
        ) * exact(255 / (self.high - self.low))
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def value_range_of(cfg: CfgNode) -> PixelRange | None:
    """INPUT.VALUE_RANGE; None if it is empty.

    Raises:
        ValueError: it is no pair of numbers.
    """
    values = cfg.INPUT.VALUE_RANGE
    if len(values) not in (0, 2):
        raise ValueError(f"INPUT.VALUE_RANGE must be empty or (low, high); got {values}")
    return PixelRange(*map(float, values)) if values else None


def pixel_range_of(
    files: Sequence[str | os.PathLike],
    *,
    headers: Sequence[ImageHeader | str] | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> PixelRange | None:
    """The range of the deep images of a data set: its percentiles ``LOWEST`` and ``HIGHEST``, None if no image is deep.

    Of the deep images ``SAMPLED_IMAGES`` are decoded, evenly spaced in the order of ``files``, and ``SAMPLED_VALUES`` of the
    values of their first three bands are counted. Images that cannot be read are passed over; :func:`look_at` names them.

    Args:
        files: paths.
        headers: what :func:`look_at` gave for them; None looks.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.

    Raises:
        ValueError: floats and whole numbers, or depths, are mixed so that no range can serve all.
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
            f"{kinds[True]} has floats and {kinds[False]} whole numbers: no INPUT.VALUE_RANGE serves both; convert one of the kinds"
        )
    samples = []
    for i in (
        np.unique(np.linspace(0, len(deep) - 1, min(len(deep), SAMPLED_IMAGES)).round().astype(int)) if deep else ()
    ):
        try:
            with ImageFile(deep[i][0], max_pixels=max_pixels) as image:
                values = _deep_values(image).ravel()
        except ImageError:
            continue
        values = values[:: -(-values.size // SAMPLED_VALUES)].astype(np.float64)
        samples.append(values[np.isfinite(values)])
    values = np.concatenate([np.empty(0), *samples])
    if not values.size:
        return None
    low, high = (float(v) for v in np.percentile(values, [LOWEST, HIGHEST]))
    return PixelRange(low, high if high > low else low + 1)


def is_deep(header: ImageHeader) -> bool:
    """Whether the values of an image need a range to become 0..255."""
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
    """Read an image as it is displayed.

    Args:
        file: path.
        image_format: "BGR" or "RGB"; others ("L", "YUV-BT.601", ...) as Detectron2 has them.
        reduce: 1, 2, 4 or 8; a JPEG is decoded at that fraction of its size, which is much faster; others are not.
        value_range: what becomes 0..255 where an image has more than 8 bits; None takes all of uint16. 8 bits stay as they are.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.
        reader: INPUT.READER; "detectron2" decodes with Pillow, as Detectron2 does.

    Returns:
        (h, w, 3) uint8. Grey is repeated, of more than three bands the first three are taken, of an animation the first picture.

    Raises:
        ImageError: no such file (:class:`ImageNotFoundError`), no image, too large, or broken.
        ValueError: the values need a range and ``value_range`` is None.
    """
    with ImageFile(file, max_pixels=max_pixels) as image:
        return decode(image, image_format, reduce=reduce, value_range=value_range, reader=reader)


def build_reader(cfg: CfgNode, image_format: str | None = None) -> Callable[[str], np.ndarray]:
    """:func:`read_image` of a file alone, as the INPUT keys of a config say; ``image_format`` instead of INPUT.FORMAT."""
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
    """The pixels of an open file, see :func:`read_image`."""
    header, plain = image.header, image_format in ("BGR", "RGB")
    if header.format == "TIFF" or is_deep(header) or header.channels == 4 and header.format == "JPEG" or not plain:
        reduce, reader = 1, "detectron2"
    pixels = None
    if _has_bands(header, image):
        rgb = turn(
            np.ascontiguousarray(to_three(_as_bytes(image, _deep_values(image), value_range))), header.orientation
        )
        pixels = (
            (rgb if image_format == "RGB" else rgb[..., ::-1])
            if plain
            else utils.convert_PIL_to_numpy(Image.fromarray(rgb), image_format)
        )
    elif reader == "opencv" and header.format in OPENCVS:
        pixels = _with_opencv(image, image_format, reduce if header.format == "JPEG" else 1)
    if pixels is None:
        pixels = _with_pillow(image, image_format)
        reduce = 1
    if reduce == 1 and pixels.shape[:2] != (header.height, header.width):
        raise image.broken(
            f"cannot be read: it says that it is {header.width}x{header.height}, but its pixels are {pixels.shape[1]}x{pixels.shape[0]}"
        )
    return pixels


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels (h, w, ...) as displayed, for an orientation 1..8.

    Source: Exif 2.3, section 4.6.4 (which edge of the picture row 0 and column 0 are).
    """
    if orientation >= 5:
        pixels = cv2.transpose(pixels)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if flip is None else cv2.flip(pixels, flip)


def to_three(pixels: np.ndarray) -> np.ndarray:
    """(h, w, bands) with the first three bands, or the first three times: a second one is alpha."""
    return pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)


def _with_opencv(image: ImageFile, image_format: str, reduce: int) -> np.ndarray | None:
    """8-bit pixels; None if OpenCV does not read them."""
    header = image.header
    image.check_end()
    if header.format == "JPEG":
        data = image.read(0, image.jpeg_end())
    else:
        data = image.png_bytes() if header.format == "PNG" else image.whole()
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), REDUCED[reduce] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # its own limits; Pillow says what is wrong, if anything is
        return None
    if pixels is None:
        return None
    pixels = turn(pixels, header.orientation)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if image_format == "RGB" else pixels


def _with_pillow(image: ImageFile, image_format: str) -> np.ndarray:
    """8-bit pixels of what OpenCV does not read, or is not to."""
    image.check_end()
    with open_with_pillow(image, (image.header.format,)) as opened:
        orientation = image.header.orientation
        if (
            image.header.format == "TIFF"
        ):  # Pillow turns it while loading, also by values that Exif does not define; those are undone
            done = opened.tag_v2.get(tiff.ORIENTATION)
            orientation = {6: 8, 8: 6}.get(done, done if done in (2, 3, 4, 5, 7) else 1) if done != orientation else 1
        opened.load()
        pixels = utils.convert_PIL_to_numpy(opened, image_format)
    if orientation == 1:
        return pixels
    return turn(np.ascontiguousarray(pixels), int(orientation)).reshape(
        image.header.height, image.header.width, *pixels.shape[2:]
    )


def _has_bands(header: ImageHeader, image: ImageFile) -> bool:
    """Whether the pixels are read in their own type: deep ones, and a TIFF that Pillow does not read or mixes up."""
    stored_apart = (
        tiff.first(image.tags, tiff.PLANAR, 1) == 2 and tiff.first(image.tags, tiff.COMPRESSION, 1) != tiff.JPEG
    )
    return is_deep(header) or header.format == "TIFF" and header.bits == 8 and (header.channels > 4 or stored_apart)


def _deep_values(image: ImageFile) -> np.ndarray:
    """(h, w, bands) in the type of the file, in the order of the file, RGB; not turned."""
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
    return (
        pixels.astype(np.uint16)[..., None]
        if image.header.format == "PPM" and pixels.dtype == np.int32
        else pixels.reshape(*pixels.shape[:2], -1)
    )


def _as_bytes(image: ImageFile, values: np.ndarray, value_range: PixelRange | None) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if value_range is None:
        if values.dtype != np.uint16:
            raise ValueError(
                f"{image.file} has values of the type {values.dtype}, which have no range of their own: set INPUT.VALUE_RANGE to (low, high)"
            )
        value_range = PixelRange(0, 65535)
    return value_range.scale(values)
