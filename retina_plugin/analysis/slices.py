"""Parts of the data, by a property of the images or of the objects, and how well each is detected."""

import math
from typing import Any, NamedTuple

import numpy as np

from retina_plugin.analysis.detections import Detections

CROWDING = "objects in the image"
"""The property of images that every analysis is sliced by."""

PARTS = 3
"""Number of slices that a continuous property is divided into, with about the same number of images or objects."""


class Slice(NamedTuple):
    """Part of the images or of the objects.

    Args:
        by: the property.
        name: the part.
        images: number of images, or of objects if ``by`` is a property of objects.
        ap: in percent; NaN if nothing is there, or if it cannot be computed.
        ap50: likewise.
        recall: share of the objects that are found at the threshold of all classes; NaN if unknown.
    """

    by: str
    name: str
    images: int
    ap: float
    ap50: float
    recall: float


def parts_of(values: dict[int, Any]) -> dict[str, list[int]]:
    """Return the slices of a property: one per text or small number of values, else ``PARTS`` ranges.

    Args:
        values: number of the image or object -> value.

    Example:
        >>> parts_of({1: "day", 2: "night", 3: "day"})
        {'day': [1, 3], 'night': [2]}
        >>> parts_of({1: 0.5, 2: 1.0, 3: 2.5, 4: 4.0, 5: 5.0, 6: 9.0})
        {'0.5 to 1': [1, 2], '2.5 to 4': [3, 4], '5 to 9': [5, 6]}
    """
    numbers = all(isinstance(value, int | float) for value in values.values())
    distinct = sorted(set(values.values()))
    if not numbers or len(distinct) <= PARTS:
        return {f"{x:g}" if numbers else str(x): [i for i, v in values.items() if v == x] for x in distinct}
    found: dict[str, list[int]] = {}
    edges = np.quantile(list(values.values()), np.linspace(0, 1, PARTS + 1)[1:-1], method="higher")
    parts: dict[int, list[int]] = {}
    for i, value in values.items():
        parts.setdefault(int(np.searchsorted(edges, value, side="left" if value < edges[0] else "right")), []).append(i)
    for part in sorted(parts):
        inside = [values[i] for i in parts[part]]
        found[f"{min(inside):.3g} to {max(inside):.3g}"] = parts[part]
    return found


def crowding_of(detections: Detections) -> dict[int, int]:
    """Return the number of objects in each image that has any, by the number of the image."""
    objects = dict.fromkeys((x["id"] for x in detections.coco["images"]), 0)
    for annotation in detections.coco["annotations"]:
        objects[annotation["image_id"]] += not annotation["iscrowd"]
    return {number: count for number, count in objects.items() if count}


def image_slices(
    detections: Detections, evaluated: Any, missed: np.ndarray, properties: dict[str, dict[int, Any]]
) -> list[Slice]:
    """Return AP by the number of objects in an image and by further properties of images."""
    slices = []
    for by, values in {CROWDING: crowding_of(detections), **properties}.items():
        parts = parts_of(values)
        if len(parts) < 2:
            continue
        found = evaluated.slice_by(parts)
        for name, numbers in parts.items():
            chosen = set(numbers)
            inside = [x["image_id"] in chosen and not x["iscrowd"] for x in detections.coco["annotations"]]
            recall = 1 - float(missed[inside].mean()) if any(inside) else math.nan
            ap, ap50 = (100 * found[name][key] if found[name][key] >= 0 else math.nan for key in ("AP", "AP50"))
            slices.append(Slice(by, name, len(numbers), ap, ap50, recall))
    return slices


def size_slices(detections: Detections, missed: np.ndarray) -> list[Slice]:
    """Return AP by the size of the objects, in ranges with about the same number of objects."""
    sides = {
        i: math.sqrt(x["area"])
        for i, x in enumerate(detections.coco["annotations"])
        if not x["iscrowd"] and x["area"] > 0
    }
    parts = parts_of(sides)
    if len(parts) < 2:
        return []
    bounds = [max(sides[i] for i in numbers) ** 2 for numbers in parts.values()]
    ranges = [[0.0, 1e10], *([low, high] for low, high in zip([0.0, *bounds[:-1]], [*bounds[:-1], 1e10], strict=True))]
    evaluated = detections.evaluated(area_rng=ranges, area_rng_lbl=["all", *parts])
    precision = np.asarray(evaluated.eval["precision"])  # IoU x recall x class x area x detections
    slices = []
    for area, (name, numbers) in enumerate(parts.items(), start=1):
        ap, ap50 = (
            100 * float(x[x > -1].mean()) if (x > -1).any() else math.nan
            for x in (precision[:, :, :, area, -1], precision[0, :, :, area, -1])
        )
        recall = 1 - float(missed[numbers].mean())
        slices.append(Slice("size of the object, px", name, len(numbers), ap, ap50, recall))
    return slices


def shape_slices(detections: Detections, missed: np.ndarray) -> list[Slice]:
    """Return the recall by the aspect ratio of the objects; detections have none of their own, so there is no AP."""
    ratios = {
        i: round(x["bbox"][2] / x["bbox"][3], 3)
        for i, x in enumerate(detections.coco["annotations"])
        if not x["iscrowd"] and x["bbox"][3] > 0
    }
    parts = parts_of(ratios)
    by = "width / height of the object"
    recalls = [(name, numbers, 1 - float(missed[numbers].mean())) for name, numbers in parts.items()]
    return [
        Slice(by, name, len(numbers), math.nan, math.nan, recall) for name, numbers, recall in recalls if len(parts) > 1
    ]
