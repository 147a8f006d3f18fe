"""Properties of images to slice results by: columns of a table, brightness."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from retina_plugin.data.pixels import read_image
from retina_plugin.data.values import as_number

MOST_TEXTS = 20
"""Columns with more different texts than this are no property, but names."""


def columns_of(file: str | os.PathLike, images: Sequence[dict]) -> dict[str, dict[int, float | str]]:
    """Read the properties of images from a CSV file.

    Args:
        file: its first column has the names or paths of image files, its first line the names of the columns.
        images: dicts with "id" and "file_name".

    Returns:
        Column -> id of the image -> number or text; cells that are empty are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it names none of the images, or has no further column.
    """
    by_name = {os.path.basename(x["file_name"]): x["id"] for x in images}
    with open(file, newline="", encoding="utf-8-sig") as stream:
        lines = list(csv.reader(stream))
    if len(lines) < 2 or len(lines[0]) < 2:
        raise ValueError(f"{file}: a line with the names of the columns and at least two columns are expected")
    found: dict[str, dict[int, float | str]] = {name: {} for name in lines[0][1:]}
    for line in lines[1:]:
        number = by_name.get(os.path.basename(line[0].strip())) if line else None
        if number is None:
            continue
        for name, cell in zip(lines[0][1:], line[1:], strict=False):
            if cell.strip():
                value = as_number(cell)
                found[name][number] = cell.strip() if value is None else value
    if not any(found.values()):
        raise ValueError(f"{file}: its first column names none of the images")
    return {name: values for name, values in found.items() if _is_property(values)}


def _is_property(values: dict[int, float | str]) -> bool:
    """Return whether a column divides images into groups."""
    texts = {value for value in values.values() if isinstance(value, str)}
    if texts and len(texts) < len(set(values.values())):  # numbers among texts
        return False
    return bool(values) and len(texts) <= MOST_TEXTS


def brightness_of(images: Sequence[dict]) -> dict[int, float]:
    """Return the mean grey value, 0..255, of images that can be read, by their ids."""
    found = {}
    for image in images:
        if Path(image["file_name"]).is_file():
            try:
                pixels = read_image(image["file_name"], "BGR")
            except (OSError, ValueError):
                continue
            small = cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA)
            found[image["id"]] = round(float(np.mean(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY))), 1)
    return found
