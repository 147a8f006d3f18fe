"""The page that compares two detectors on the same images."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from retina_plugin.analysis.comparison import Comparison, Difference, verdict
from retina_plugin.analysis.diagnosis import ERRORS
from retina_plugin.report.analysis_page import COLOURS, MISSED, RIGHT, WRONG, draw_image, percent
from retina_plugin.report.page import Page

EXAMPLES = 4
"""Images shown of those that got better, and of those that got worse."""


def write_comparison(
    found: Comparison, file: str | os.PathLike, read: Callable[[str], np.ndarray], names: tuple[str, str]
) -> Path:
    """Write a page.

    Args:
        found: the comparison.
        file: to write.
        read: reads an image file as (H, W, 3) uint8, BGR.
        names: of the two detectors.
    """
    page = Page(
        f"{names[1]} against {names[0]}", f"on {found.first.detections.dataset}, {len(found.first.images)} images"
    )
    page.heading("Overview")
    page.text(f"{verdict(found, names)}.")
    page.text(
        "The interval is a paired bootstrap over images. It does not contain how much trainings of the same config "
        "differ; `retina ablate` with several seeds measures that."
    )
    _differences(page, found.metrics, names, "metric")
    page.heading("Kinds of errors")
    page.text("AP50 that correcting all errors of a kind would add (TIDE).")
    costs = [(found.first.errors[kind][1], found.second.errors[kind][1]) for kind in ERRORS]
    rows = [(name, f"{one:.1f}", f"{other:.1f}") for name, (one, other) in zip(ERRORS.values(), costs, strict=True)]
    page.table(["error", *names], rows)
    page.heading("Classes")
    _differences(page, found.classes, names, "class")
    page.heading("Parts of the data")
    _differences(page, found.slices, names, "part")
    better, worse = [x for x in found.images if x[0] < 0], [x for x in found.images if x[0] > 0]
    page.heading("Images")
    same = len(found.first.images) - len(better) - len(worse)
    page.text(
        f"Fewer mistakes in {len(better)} images, more in {len(worse)}, as many in {same}; each at its best score."
    )
    page.legend([("correct", COLOURS[RIGHT]), ("wrong", COLOURS[WRONG]), ("missed, dashed", COLOURS[MISSED])])
    for title, chosen in (("Most improved", better), ("Most impaired", worse[::-1])):
        if chosen:
            page.heading(f"{title}: {names[0]} left, {names[1]} right")
        for change, one, other in chosen[:EXAMPLES]:
            try:
                pixels = read(one.file)
            except (OSError, ValueError) as error:
                page.text(f"{one.file} is not shown: {error}")
                continue
            left, right = draw_image(found.first, one, pixels), draw_image(found.second, other, pixels)
            height = max(left.shape[0], right.shape[0])
            parts = [np.pad(x, ((0, height - x.shape[0]), (0, 6), (0, 0)), constant_values=255) for x in (left, right)]
            page.picture(np.hstack(parts), f"{Path(one.file).name}: {change:+d} mistakes")
    page.write(file)
    return Path(file)


def _differences(page: Page, differences: list[Difference], names: tuple[str, str], what: str) -> None:
    """Add a table of differences; the interval only where it was computed."""
    with_interval = not all(math.isnan(x.low) for x in differences)
    rows = []
    for x in differences:
        row = [x.name, percent(x.first), percent(x.second), f"{x.second - x.first:+.1f}"]
        limits = "" if math.isnan(x.low) else f"{x.low:+.1f} to {x.high:+.1f}" + (" *" if x.certain else "")
        rows.append([*row, limits] if with_interval else row)
    page.table([what, *names, "difference", *(["95 % interval"] if with_interval else [])], rows)
    if with_interval:
        page.text("* the interval excludes 0.")
