"""Planted mistakes in annotations, which tell how many of the real ones a review would find."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from retina_plugin.analysis.detections import Detections
from retina_plugin.analysis.review import KINDS, SAME_PLACE, Candidate, overlaps_of, xyxy

MOVED = (0.3, 0.6)
"""By how much of its width or height a box is moved."""

MISPLACED = {"missing", "box"}
"""Kinds that cannot always be told apart: a box far from its object, and an object without one."""

JITTER = 0.08
"""By how much of its sides the second annotation of an object differs, at most."""


class Planted(NamedTuple):
    """A planted mistake.

    Args:
        kind: one of :data:`retina_plugin.analysis.review.KINDS`.
        file: path of the image.
        true_box: (4,) XYXY, the correct box.
        box: (4,) XYXY, the box that the wrong annotation has; that of a missing one is the correct one.
    """

    kind: str
    file: str
    true_box: tuple[float, ...]
    box: tuple[float, ...]


def plant(
    records: Sequence[dict], num_classes: int, *, share: float, seed: int = 0
) -> tuple[list[dict], list[Planted]]:
    """Plant mistakes of every kind, each in a share of the annotations.

    An annotation gets at most one: it is dropped, gets a different class, is moved by 30 to 60 % of its size (so that
    its IoU is below 0.54), or is repeated with slightly different corners.

    Args:
        records: Detectron2's dataset dicts, boxes XYXY_ABS; they are not changed.
        num_classes: K; a single class cannot be confused.
        share: of the annotations, of each kind, 0..0.25.
        seed: of all random numbers.

    Returns:
        Records with mistakes, and what was planted.

    Raises:
        ValueError: the share is not in 0..0.25.
    """
    if not 0 < share <= 0.25:
        raise ValueError(f"the share of mistakes must be above 0 and at most 0.25, of each of 4 kinds; got {share}")
    rng = np.random.default_rng(seed)
    changed = copy.deepcopy(list(records))
    places = [
        (i, j)
        for i, record in enumerate(changed)
        for j, x in enumerate(record.get("annotations") or ())
        if not x.get("iscrowd")
    ]
    count = max(1, round(share * len(places)))
    kinds = [kind for kind in KINDS if kind != "class" or num_classes > 1]
    chosen = rng.permutation(len(places))[: count * len(kinds)]
    planted, dropped = [], []
    for n, at in enumerate(chosen):
        kind, (i, j) = kinds[n % len(kinds)], places[at]
        record, annotation = changed[i], changed[i]["annotations"][j]
        box = true_box = np.asarray(annotation["bbox"], dtype=float)
        if kind == "missing":
            dropped.append((i, annotation))
        elif kind == "class":
            annotation["category_id"] = int((annotation["category_id"] + rng.integers(1, num_classes)) % num_classes)
        elif kind == "box":
            box = annotation["bbox"] = _moved(rng, box, record)
        else:
            sides = np.tile(box[2:] - box[:2], 2)
            box = _inside(box + rng.uniform(-JITTER, JITTER, 4) * sides, record)
            record["annotations"].append({**annotation, "bbox": box})
        planted.append(Planted(kind, record["file_name"], tuple(true_box), tuple(box)))
    for i, annotation in dropped:
        changed[i]["annotations"] = [x for x in changed[i]["annotations"] if x is not annotation]
    return changed, planted


def _moved(rng: np.random.Generator, box: np.ndarray, record: dict) -> np.ndarray:
    """Return a box moved inside the image, sideways or up or down, away from a border that is too close."""
    axis, amount = int(rng.integers(2)), rng.uniform(*MOVED)
    limit = (record["width"], record["height"])[axis]
    step = amount * (box[axis + 2] - box[axis]) * (1 if rng.random() < 0.5 else -1)
    if not (box[axis] + step >= 0 and box[axis + 2] + step <= limit):
        step = -step
    moved = box.copy()
    moved[[axis, axis + 2]] += step
    return _inside(moved, record)


def _inside(box: np.ndarray, record: dict) -> np.ndarray:
    """Return a box clipped to the image."""
    return np.clip(box, 0, [record["width"], record["height"]] * 2)


@dataclass
class Found:
    """How many planted mistakes a review finds.

    Attributes:
        real: (candidates,) bool, whether each candidate is a planted mistake that none before it is.
        by_kind: kind -> (planted, found by any candidate, found by a candidate of that kind).
        others: candidates that are not planted.
    """

    real: np.ndarray
    by_kind: dict[str, tuple[int, int, int]]

    def precision(self, first: int) -> float:
        """Return the share of the first candidates that are planted mistakes."""
        return float(self.real[:first].mean()) if len(self.real) else 0.0

    def recall(self, first: int) -> float:
        """Return the share of the planted mistakes that are among the first candidates."""
        return float(self.real[:first].sum()) / max(1, sum(count for count, *_ in self.by_kind.values()))


def judge(candidates: Sequence[Candidate], planted: Sequence[Planted], detections: Detections) -> Found:
    """Compare candidates with what was planted: they are the same if they mean the same place, at IoU 0.5.

    Args:
        candidates: the most suspicious first.
        planted: the mistakes.
        detections: that the candidates come from.
    """
    files = {x["id"]: x["file_name"] for x in detections.coco["images"]}
    by_file: dict[str, list[int]] = {}
    for i, x in enumerate(planted):
        by_file.setdefault(x.file, []).append(i)
    annotations = {x["id"]: x["bbox"] for x in detections.coco["annotations"]}
    found: dict[int, str] = {}  # number of a planted mistake -> kind of its candidate
    real = np.zeros(len(candidates), dtype=bool)
    for n, candidate in enumerate(candidates):
        alike = MISPLACED if candidate.kind in MISPLACED else {candidate.kind}
        mine = [i for i in by_file.get(files[candidate.image], ()) if i not in found and planted[i].kind in alike]
        if not mine:
            continue
        # The annotation at the wrong place, or the detection at the right one.
        boxes = [annotations[candidate.annotation]] if candidate.annotation is not None else []
        boxes += [candidate.box] if candidate.box is not None else []
        there = xyxy(np.array(boxes, dtype=float))
        truth = np.array([planted[i].box for i in mine]), np.array([planted[i].true_box for i in mine])
        overlaps = np.stack([overlaps_of(there, x) for x in truth]).max(axis=(0, 1))
        best = int(overlaps.argmax())
        if overlaps[best] >= SAME_PLACE:
            real[n], found[mine[best]] = True, candidate.kind
    by_kind = {}
    for kind in KINDS:
        of_kind = [i for i, x in enumerate(planted) if x.kind == kind]
        by_kind[kind] = (len(of_kind), sum(i in found for i in of_kind), sum(found.get(i) == kind for i in of_kind))
    return Found(real, by_kind)
