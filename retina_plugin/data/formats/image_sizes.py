"""Compare the sizes that annotations state with those of the image files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retina_plugin.data.image_headers import ImageHeader
from retina_plugin.data.problems import Kind, Problem

Look = Callable[[list[str], list[bool]], Sequence[ImageHeader | str | None]]
"""``look(files, needed)``: the header of each image file, text that says why the image cannot be used, or None for a
file that was not opened; a file that is ``needed`` is always opened."""


@dataclass
class ImageSizes:
    """Sizes of N images.

    Args:
        sizes: (N, 2) height and width in pixels, NaN for an image that is left out.
        scales: (N, 2) factors (x, y) by which the boxes of an image are scaled.
        problems: images that are left out, and images whose boxes are scaled.
        unstated: number of images whose annotations state no usable size.
    """

    sizes: np.ndarray
    scales: np.ndarray
    problems: list[Problem]
    unstated: int = 0


def resolve_sizes(records: list[dict], boxes: list[int], look: Look) -> ImageSizes:
    """Determine the size of every image, and set "height" and "width" of its record.

    Args:
        records: N dataset dicts; "height" and "width" are what the annotations state, or None.
        boxes: number of boxes of each image, which are lost if it is left out.
        look: opens the image files.
    """
    found = ImageSizes(np.full((len(records), 2), np.nan), np.ones((len(records), 2)), [])
    needed = [record["height"] is None or record["width"] is None for record in records]
    headers = look([record["file_name"] for record in records], needed)
    for i, (record, header) in enumerate(zip(records, headers, strict=True)):
        file, image_id = record["file_name"], record["image_id"]
        if isinstance(header, str):
            found.problems.append(Problem(Kind.IMAGE, file, header, image_id, boxes=boxes[i], images=1))
            continue
        stated = record["height"], record["width"]
        actual = stated if header is None else (header.height, header.width)
        if needed[i]:
            found.unstated += 1
        elif actual != stated:
            what = f"is {actual[1]}x{actual[0]}, but the annotations say {stated[1]}x{stated[0]}"
            factors = same_shape(stated, actual)
            if factors is None:
                if actual == stated[::-1]:
                    what += "; with width and height swapped, they would agree"
                found.problems.append(Problem(Kind.SIZE, file, what, image_id, boxes=boxes[i], images=1))
                continue
            found.problems.append(Problem(Kind.SCALED, file, what, image_id, done="boxes scaled"))
            found.scales[i] = factors
        found.sizes[i] = actual
        record["height"], record["width"] = actual
    return found


def same_shape(said: tuple[int, int], actual: tuple[int, int]) -> tuple[float, float] | None:
    """Return the factors (x, y) from one size (height, width) to another, or None if the aspect ratios differ.

    A difference of one pixel counts as rounding.

    Example:
        >>> same_shape((480, 640), (240, 320)), same_shape((480, 640), (640, 480))
        ((0.5, 0.5), None)
    """
    fy, fx = actual[0] / said[0], actual[1] / said[1]
    if abs(actual[0] - said[0] * fx) <= max(1.0, fx) and abs(actual[1] - said[1] * fy) <= max(1.0, fy):
        return fx, fy
    return None
