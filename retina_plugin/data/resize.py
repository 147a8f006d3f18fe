"""Reading images at the size that the network needs, without torch and detectron2."""

import cv2
import numpy as np

from retina_plugin.data.image_headers import MAX_IMAGE_PIXELS, ImageFile
from retina_plugin.data.pixels import PixelRange, decode
from retina_plugin.data.strangers_files import ImageError


def output_size(height: int, width: int, shorter: int, longest: int) -> tuple[int, int]:
    """Return the (height, width) of a resized image, as Detectron2's ``ResizeShortestEdge`` computes it.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        shorter: wanted shorter side; 0: not resized.
        longest: most pixels of the longer side.

    Example:
        >>> output_size(480, 640, 800, 1333), output_size(100, 1000, 800, 1333)
        ((800, 1067), (133, 1333))
    """
    if not shorter:
        return height, width
    scale = shorter / min(height, width)
    new_height, new_width = (shorter, scale * width) if height < width else (scale * height, shorter)
    if max(new_height, new_width) > longest:
        scale = longest / max(new_height, new_width)
        new_height, new_width = new_height * scale, new_width * scale
    return int(new_height + 0.5), int(new_width + 0.5)


def reduction(size: tuple[int, int], target: tuple[int, int]) -> int:
    """Return the largest of 8, 4, 2, 1 by which an image (h, w) can be reduced and still be as large as ``target``."""
    return next((n for n in (8, 4, 2) if size[0] >= n * target[0] and size[1] >= n * target[1]), 1)


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image (h, w, C) with OpenCV: bilinear to enlarge, by area to shrink."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height < image.shape[0] and width < image.shape[1]
    result = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return result.reshape(height, width, *image.shape[2:])  # OpenCV drops the axis of a single channel


def read_resized(
    file: str,
    *,
    shorter: int,
    longest: int,
    image_format: str,
    reader: str = "opencv",
    value_range: PixelRange | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> tuple[np.ndarray, int, int]:
    """Read an image as evaluation does: a large JPEG is decoded at a fraction of its size.

    Args:
        file: path.
        shorter: see :func:`output_size`.
        longest: the same.
        image_format: "BGR" or "RGB".
        reader: INPUT.READER.
        value_range: INPUT.VALUE_RANGE.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.

    Returns:
        The resized image (h, w, C) uint8, and the height and width of the file's.

    Raises:
        ImageError: the file cannot be used, or a side of the resized image would have no pixels.
    """
    with ImageFile(file, max_pixels=max_pixels) as image:
        size = image.header.height, image.header.width
        target = output_size(*size, shorter, longest)
        if min(target) < 1:
            raise ImageError(
                file,
                f"is {size[1]}x{size[0]}, which leaves {target[1]}x{target[0]} pixels "
                f"with a longer side of at most {longest}: cut it into pieces",
            )
        n = reduction(size, target) if reader == "opencv" else 1
        pixels = decode(image, image_format, reduce=n, value_range=value_range, reader=reader)
    return resized(pixels, *target), *size
