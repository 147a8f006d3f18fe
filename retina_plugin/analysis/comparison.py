"""How two detectors differ on the same images, and how sure that is."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import hotcoco
import numpy as np

from retina_plugin.analysis.detections import Detections
from retina_plugin.analysis.diagnosis import Diagnosis, ImageResult, diagnose
from retina_plugin.analysis.slices import CROWDING, crowding_of, parts_of

SAMPLES = 1000
"""Bootstrap samples."""

MOST_CLASSES = 30
"""Classes with intervals, those that changed most."""


class Difference(NamedTuple):
    """A metric of two detectors, in percent.

    Args:
        name: of the metric.
        first: of detector A.
        second: of detector B.
        low: lower end of the 95 % interval of B - A over images; NaN if it was not computed.
        high: upper end.
    """

    name: str
    first: float
    second: float
    low: float = math.nan
    high: float = math.nan

    @property
    def certain(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass
class Comparison:
    """Two detectors on the same images.

    Attributes:
        first, second: their analyses, A and B.
        metrics: COCO's, with intervals.
        classes: AP of each class, the largest change first.
        slices: AP of the parts of the data that both have.
        images: (mistakes of B - mistakes of A, result of A, result of B) where they differ, most improved first.
    """

    first: Diagnosis
    second: Diagnosis
    metrics: list[Difference]
    classes: list[Difference]
    slices: list[Difference]
    images: list[tuple[int, ImageResult, ImageResult]]


def compare(first: Detections, second: Detections, *, samples: int = SAMPLES) -> Comparison:
    """Compare two sets of detections of the same images.

    The interval comes from a paired bootstrap: images are drawn with replacement, and both detectors are scored on the
    same draws, so that what makes images hard for both cancels out.

    Raises:
        ValueError: they are not of the same images and classes.
    """
    limits = paired_intervals(first, second, samples=samples)
    a, b = diagnose(first, samples=0), diagnose(second, samples=0)
    metrics = [
        Difference(name, a.metrics[name], b.metrics[name], low, high)
        for name, (low, high) in limits.items()
        if name in a.metrics and not math.isnan(a.metrics[name])
    ]
    classes = _of_classes(a, b, samples)
    slices = _of_slices(a, b, samples)
    other = {x.number: x for x in b.images}
    images = [(_mistakes(other[x.number]) - _mistakes(x), x, other[x.number]) for x in a.images]
    return Comparison(
        a,
        b,
        metrics,
        classes,
        slices,
        sorted((x for x in images if x[0]), key=lambda x: x[0]),
    )


def _of_classes(a: Diagnosis, b: Diagnosis, samples: int) -> list[Difference]:
    """Return the differences of the classes, the largest change first; the first ones with intervals."""
    by_class = {x.name: x.ap for x in b.classes}
    found = [Difference(x.name, x.ap, by_class[x.name]) for x in a.classes if not math.isnan(x.ap)]
    found.sort(key=lambda x: -abs(np.nan_to_num(x.second - x.first)))
    for i, x in enumerate(found[:MOST_CLASSES]):
        label = a.detections.class_names.index(x.name)
        limits = paired_intervals(a.detections.of_class(label), b.detections.of_class(label), samples=samples)["AP"]
        found[i] = x._replace(low=limits[0], high=limits[1])
    return found


def _of_slices(a: Diagnosis, b: Diagnosis, samples: int) -> list[Difference]:
    """Return the differences in parts of the data; with intervals where they are parts of the images."""
    parts = parts_of(crowding_of(a.detections))
    by_slice = {(x.by, x.name): x.ap for x in b.slices}
    found = []
    for x in a.slices:
        if (x.by, x.name) not in by_slice or math.isnan(x.ap):
            continue
        limits = (math.nan, math.nan)
        if x.by == CROWDING:
            numbers = set(parts[x.name])
            one, other = (side.detections.of_images(numbers) for side in (a, b))
            limits = paired_intervals(one, other, samples=samples)["AP"]
        found.append(Difference(f"{x.by}: {x.name}", x.ap, by_slice[x.by, x.name], *limits))
    return found


def paired_intervals(
    first: Detections, second: Detections, *, samples: int = SAMPLES
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of the difference of each metric, second - first, in percent, by paired bootstrap.

    Raises:
        ValueError: they are not of the same images and classes.
    """
    theirs, ours = ([x["file_name"] for x in one.coco["images"]] for one in (first, second))
    if theirs != ours or first.class_names != second.class_names:
        raise ValueError(
            f"{first.source} and {second.source} are not of the same images and classes ({len(theirs)} images of "
            f"{first.dataset}, {len(ours)} of {second.dataset})"
        )
    found = hotcoco.compare(first.evaluated(), second.evaluated(), n_bootstrap=samples, seed=0)["ci"]
    return {name: (100 * limits["lower"], 100 * limits["upper"]) for name, limits in found.items()}


def _mistakes(image: ImageResult) -> int:
    return image.wrong + image.missed


def verdict(found: Comparison, names: tuple[str, str] = ("A", "B")) -> str:
    """Return the difference of AP as a sentence."""
    ap = found.metrics[0]
    change = ap.second - ap.first
    text = f"{ap.name} {ap.first:.1f} ({names[0]}) and {ap.second:.1f} ({names[1]}): {change:+.1f}"
    text += f", between {ap.low:+.1f} and {ap.high:+.1f} with a confidence of 95 % over images"
    if ap.certain:
        return f"{text}, so {names[1 if change > 0 else 0]} is better on images of this kind"
    return f"{text}, so these images do not tell which is better"
