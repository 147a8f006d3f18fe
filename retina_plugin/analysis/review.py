"""Candidates for mistakes in the annotations: where a detector contradicts them, the most suspicious first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torchvision.ops import box_iou

from retina_plugin.analysis.detections import Detections
from retina_plugin.evaluation.thresholds import match

KINDS = {
    "missing": "an object without an annotation",
    "class": "wrong class",
    "box": "box not tight or in the wrong place",
    "duplicate": "object annotated twice",
}
"""Kinds of mistakes that are looked for."""

SAME_PLACE = 0.5
"""IoU from which a detection and an annotation, or two annotations, are about the same place."""

NEARBY = 0.1
"""IoU from which an annotation without a detection can be the misplaced box of a detection without an annotation."""

LEAST = 0.1
"""Suspicion below which nothing is a candidate."""

DOUBLED = 0.6
"""IoU from which two annotations can be of one object."""


class Candidate(NamedTuple):
    """A suspected mistake.

    Args:
        kind: one of ``KINDS``.
        image: number of the image.
        suspicion: 0..1, how strongly the detector contradicts the annotation; comparable between kinds.
        annotation: its "id" in ``detections.coco``; None if the mistake is a missing annotation.
        box: what the detector says, XYWH in pixels; None for a duplicate, which is to be removed.
        label: its class; None for a duplicate.
    """

    kind: str
    image: int
    suspicion: float
    annotation: int | None
    box: tuple[float, float, float, float] | None
    label: int | None


class _Image(NamedTuple):
    """Detections and annotations of an image.

    Args:
        number: of the image.
        boxes: (D, 4) XYXY.
        scores: (D,) probabilities.
        labels: (D,).
        true_boxes: (M, 4) XYXY, annotations that are no crowds.
        true_labels: (M,).
        ids: (M,) of the annotations.
        overlaps: (D, M) IoU.
        crowds: (D,) bool, detections of which half or more lies in a crowd.
    """

    number: int
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    true_boxes: np.ndarray
    true_labels: np.ndarray
    ids: np.ndarray
    overlaps: np.ndarray
    crowds: np.ndarray


def find_candidates(detections: Detections) -> list[Candidate]:
    """Return the annotations that a detector contradicts, the most suspicious first.

    The detector should not have been trained on these annotations, or it repeats their mistakes. Scores are converted
    to probabilities of being right (isotonic regression per class on these annotations, few of which are wrong).

    - missing: the probability of a detection where nothing is annotated.
    - class: at the place of an annotation, the probability of a different class minus that of the annotated one.
    - box: a detection and an annotation of its class that only have each other; the probability times how far their
      IoU is below what is usual for this detector.
    - duplicate: the IoU of two annotations, unless the detector sees two objects there.

    Source: the kinds are those of Tkachenko et al. 2023, *ObjectLab* (overlooked, swapped, badly located), and
    duplicates; the scores differ.
    """
    rows = detections.rows.copy()
    rows[:, 5] = _probabilities(detections)
    images = list(_images(detections, rows))
    tight, loose = _usual_overlaps(images)
    found: list[Candidate] = []
    for image in images:
        doubled = list(_duplicates(image))
        found += doubled
        extra = {x.annotation for x in doubled}
        left = np.array([one not in extra for one in image.ids], dtype=bool)
        image = image._replace(
            true_boxes=image.true_boxes[left],
            true_labels=image.true_labels[left],
            ids=image.ids[left],
            overlaps=image.overlaps[:, left],
        )
        found += _contradictions(image, tight, loose)
    return sorted((x for x in found if x.suspicion >= LEAST), key=lambda x: (-x.suspicion, x.image))


def _probabilities(detections: Detections) -> np.ndarray:
    """Return the probability (D,) that each detection is right, by its class and score."""
    labels, right = match(detections.rows, detections.coco, most=detections.most)
    scores = detections.rows[:, 5]
    counted = right >= 0
    found = np.zeros(len(scores))
    for label in np.unique(labels):
        mine = labels == label
        known = mine & counted
        if known.any():
            values, groups, counts = np.unique(scores[known], return_inverse=True, return_counts=True)
            shares = np.bincount(groups, weights=right[known] > 0) / counts
            found[mine] = np.interp(scores[mine], values, isotonic_regression(shares, weights=counts).x)
    return found


def _images(detections: Detections, rows: np.ndarray) -> Sequence[_Image]:
    """Return the detections and annotations by image."""
    annotations = detections.coco["annotations"]
    by_image: dict[int, list[int]] = {x["id"]: [] for x in detections.coco["images"]}
    for i, x in enumerate(annotations):
        by_image[x["image_id"]].append(i)
    order = np.argsort(rows[:, 0], kind="stable")
    starts = np.searchsorted(rows[order, 0], list(by_image))
    ends = np.searchsorted(rows[order, 0], list(by_image), side="right")
    images = []
    for (number, indices), start, end in zip(by_image.items(), starts, ends, strict=True):
        mine = rows[order[start:end]]
        boxes = xyxy(mine[:, 1:5])
        crowd = np.array([bool(annotations[i]["iscrowd"]) for i in indices], dtype=bool)
        truth = xyxy(np.array([annotations[i]["bbox"] for i in indices], dtype=float).reshape(-1, 4))
        kept = np.array(indices, dtype=np.int64)[~crowd]
        images.append(
            _Image(
                number,
                boxes,
                mine[:, 5],
                mine[:, 6].astype(np.int64),
                truth[~crowd],
                np.array([annotations[i]["category_id"] - 1 for i in kept], dtype=np.int64),
                np.array([annotations[i]["id"] for i in kept], dtype=np.int64),
                overlaps_of(boxes, truth[~crowd]),
                _inside(boxes, truth[crowd]),
            )
        )
    return images


def _usual_overlaps(images: Sequence[_Image]) -> tuple[float, float]:
    """Return the IoU of boxes that are usual, and the IoU below which a box is certainly off.

    They are the lowest tenth of the IoU of the best detection with each annotation that it matches, and half of the
    median.
    """
    best = [image.overlaps[image.scores >= 0.5].max(axis=0, initial=0) for image in images if image.overlaps.size]
    matched = np.concatenate([x[x >= SAME_PLACE] for x in best]) if best else np.empty(0)
    if not len(matched):
        return SAME_PLACE, NEARBY
    loose = float(np.median(matched)) / 2
    return max(float(np.quantile(matched, 0.1)), loose + 0.05), loose


def _duplicates(image: _Image) -> Sequence[Candidate]:
    """Return the annotations that repeat another one; of two, the one that fits the detections less."""
    pairs = np.triu(overlaps_of(image.true_boxes, image.true_boxes), 1)
    support = (image.overlaps * image.scores[:, None]).max(axis=0, initial=0)
    found: dict[int, Candidate] = {}
    for i, j in np.argwhere(pairs >= DOUBLED).tolist():
        worse = i if support[i] < support[j] else j
        suspicion = float(pairs[i, j]) * (1 - _second_object(image, i, j))
        one = int(image.ids[worse])
        if suspicion >= LEAST and (one not in found or found[one].suspicion < suspicion):
            found[one] = Candidate("duplicate", image.number, suspicion, one, None, None)
    return list(found.values())


def _second_object(image: _Image, i: int, j: int) -> float:
    """Return the probability that there are two objects at two annotations that overlap.

    It is that of the less certain of two detections, the first one nearer to i, the second nearer to j.
    """
    to_i, to_j = image.overlaps[:, i], image.overlaps[:, j]
    there = np.maximum(to_i, to_j) >= SAME_PLACE
    first, second = there & (to_i > to_j), there & (to_j > to_i)
    if image.true_labels[i] != image.true_labels[j]:
        first &= image.labels == image.true_labels[i]
        second &= image.labels == image.true_labels[j]
    return float(min(image.scores[first].max(initial=0), image.scores[second].max(initial=0)))


def _contradictions(image: _Image, tight: float, loose: float) -> Sequence[Candidate]:
    """Return wrong classes, bad boxes and missing annotations of an image.

    Args:
        image: without duplicates.
        tight: IoU that is usual.
        loose: IoU below which a box is certainly off.
    """
    found: list[Candidate] = []
    same = image.labels[:, None] == image.true_labels[None]  # (D, M)
    near = image.overlaps >= SAME_PLACE
    probability = image.scores[:, None]
    agreeing = np.where(near & same, probability, 0).max(axis=0, initial=0)  # (M,)
    different = np.where(near & ~same, probability, 0)
    used = (near & same).any(axis=1)
    swapped = np.zeros(len(image.ids), dtype=bool)
    if len(image.scores):
        for m in np.flatnonzero(different.max(axis=0) > agreeing).tolist():
            d = int(different[:, m].argmax())
            suspicion = float(different[d, m] - agreeing[m])
            swapped[m] = True
            found.append(_candidate(image, "class", suspicion, d, m))
        used |= (near & swapped[None]).any(axis=1)
        used |= near.any(axis=1)  # a weaker detection of another class at the place of a right annotation
    free = ~used & ~image.crowds
    taken = np.zeros(len(image.scores), dtype=bool)
    for m in range(len(image.ids)):
        if swapped[m]:
            continue
        # The detection that the annotation goes with: one near it, or else one that no annotation goes with.
        nearby = same[:, m] & (image.overlaps[:, m] >= NEARBY)
        choice = nearby & near[:, m] if agreeing[m] > 0 else nearby & free & ~taken
        if not choice.any():
            continue
        d = int(np.where(choice, image.scores, -1).argmax())
        share = min(max((tight - image.overlaps[d, m]) / (tight - loose), 0.0), 1.0)
        taken[d] = True
        if share > 0:
            found.append(_candidate(image, "box", float(image.scores[d] * share), d, m))
    for d in np.flatnonzero(free & ~taken).tolist():
        others = overlaps_of(image.boxes[d : d + 1], image.boxes[free & ~taken])[0]
        if (image.scores[free & ~taken][others >= SAME_PLACE] > image.scores[d]).any():
            continue  # of several classes at one place, the most probable one
        found.append(_candidate(image, "missing", float(image.scores[d]), d, None))
    return found


def _candidate(image: _Image, kind: str, suspicion: float, d: int, m: int | None) -> Candidate:
    """Return a candidate with what detection d says about annotation m."""
    x1, y1, x2, y2 = image.boxes[d].tolist()
    annotation = None if m is None else int(image.ids[m])
    return Candidate(kind, image.number, suspicion, annotation, (x1, y1, x2 - x1, y2 - y1), int(image.labels[d]))


def xyxy(boxes: np.ndarray) -> np.ndarray:
    """Return boxes (n, 4) XYWH as XYXY."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def overlaps_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU (n, m) of boxes (n, 4) and (m, 4), XYXY."""
    if not len(a) or not len(b):
        return np.zeros((len(a), len(b)))
    return box_iou(torch.from_numpy(a).double(), torch.from_numpy(b).double()).nan_to_num_(0).numpy()


def _inside(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return which boxes (n, 4) have half of their area in one of the regions (m, 4), XYXY."""
    if not len(boxes) or not len(regions):
        return np.zeros(len(boxes), dtype=bool)
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)  # (n, m)
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)
    return (shared / areas[:, None]).max(axis=1) >= 0.5
