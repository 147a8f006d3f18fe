"""Proves that an exported file detects what its checkpoint detects."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from retina_plugin.evaluation.ground_truth import GroundTruth
from retina_plugin.evaluation.hotcoco import coco_figures, counted
from retina_plugin.evaluation.rows import numbered_from_one, rows_from
from retina_plugin.inference.stream import Found, Predictor


@dataclass(frozen=True)
class Bound:
    """How much a file may differ from its checkpoint; None: not bounded.

    Args:
        box: pixels.
        score: 0..1.
        ap: percent.
    """

    box: float | None
    score: float | None
    ap: float


BOUNDS = {
    "fp32": Bound(0.05, 1e-4, 0.05),
    "fp16": Bound(None, None, 0.2),
    "bf16": Bound(None, None, 0.5),
    "int8": Bound(None, None, 0.5),
}
"""The bound of each precision."""

SIZES_FROM = 8
"""Images whose detections are compared one by one, each in four sizes."""

SPEED_IMAGES = 50
"""Images that torch is timed on in the precision of the config."""

SAME = 1.0
"""Pixels that the boxes of one detection may be apart."""

TIE = 1e-5
"""Difference of scores up to which it is chance which of two overlapping boxes is kept."""

NEAR = 1e-3
"""A detection may be missing if its score is so close to the minimum score, or to that of the last one kept."""


@dataclass
class Differences:
    """What differs between two sets of detections.

    Attributes:
        compared: detections that both have.
        tied: detections of equal scores that overlap, of which suppression kept one in one set and the other in the
            other set.
        lacking: other detections that only one of them has, and that are not near a limit.
        box: largest difference of a coordinate, pixels.
        score: largest difference of a score.
    """

    compared: int = 0
    tied: int = 0
    lacking: int = 0
    box: float = 0.0
    score: float = 0.0

    def add(self, theirs: Found, ours: Found, *, floor: float, most: int) -> None:
        """Add the detections of an image.

        Args:
            theirs: of the checkpoint.
            ours: of the file.
            floor: minimum score.
            most: detections that are kept per image.
        """
        taken = np.zeros(len(ours.scores), dtype=bool)
        limits = [floor, *(float(x.scores.min()) for x in (theirs, ours) if len(x.scores) >= most)]
        for box, score, label in zip(*theirs, strict=True):
            moved, changed = np.abs(ours.boxes - box).max(axis=1, initial=0.0), np.abs(ours.scores - score)
            possible = (ours.labels == label) & ~taken
            same = np.flatnonzero(possible & (moved <= SAME))
            if len(same):
                best = int(same[np.argmin(moved[same] + 1e3 * changed[same])])
                self.compared, taken[best] = self.compared + 1, True
                self.box, self.score = max(self.box, float(moved[best])), max(self.score, float(changed[best]))
                continue
            tied = np.flatnonzero(possible & (changed <= TIE) & (_overlaps(box, ours.boxes) > 0))
            if len(tied):
                taken[tied[0]] = True
                self.tied += 1
            else:
                self.lacking += not _is_near(score, limits)
        self.lacking += sum(not _is_near(score, limits) for score in ours.scores[~taken])


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the area (D,) that a box (4,) shares with others (D, 4)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    return np.clip(high - low, 0, None).prod(axis=1)


def _is_near(score: float, limits: Sequence[float]) -> bool:
    """Return whether a score is close to a limit."""
    return any(abs(score - limit) < NEAR for limit in limits)


def compare_sizes(
    reference: Predictor,
    exported: Predictor,
    files: Sequence[str],
    *,
    floor: float,
    most: int,
    takes: Callable[[np.ndarray], bool] = lambda pixels: True,
) -> Differences:
    """Compare the detections in images, and in parts of them of other sizes and shapes.

    Args:
        reference: the checkpoint in float32.
        exported: the file.
        files: images; noise if there are none.
        floor: minimum score of both.
        most: detections that are kept per image.
        takes: whether the file takes an image (H, W, 3); others are left out.
    """
    found = Differences()
    images = [x for x in (cv2.imread(file) for file in files) if x is not None]
    images = images or [np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)]
    for image in images:
        height, width = image.shape[:2]
        for part in (image, image[: max(1, height // 2)], image[:, : max(1, width // 2)], image[::2, ::3]):
            pixels = np.ascontiguousarray(part)
            if not takes(pixels):
                continue
            theirs, ours = (x.run([x.map_array(pixels, "")], _ignore)[0] for x in (reference, exported))
            found.add(theirs, ours, floor=floor, most=most)
    return found


def _takes(exported: Any, pixels: np.ndarray) -> bool:
    """Return whether a file takes images of the size of this one (H, W, 3)."""
    only, d = exported.metadata.input_size, exported.metadata.divisor
    if only is None:
        return True
    sides = exported.map_array(pixels, "")["image"].shape[1:]
    return [-(-side // d) * d for side in sides] == only


def _ignore(part: str) -> None:
    """Do nothing at the end of a part."""


@dataclass
class Measured:
    """Accuracy and speed on a dataset.

    Attributes:
        ap: percent.
        rate: images per second in network and post-processing, one image at a time.
    """

    ap: float
    rate: float


def measure(predictor: Predictor, truth: GroundTruth, images: Sequence[dict], *, most: int) -> Measured:
    """Evaluate a predictor on images, one at a time.

    Args:
        predictor: a checkpoint or a file, with the minimum score of an evaluation.
        truth: the annotations.
        images: those of ``truth.coco["images"]`` to use.
        most: detections per image that count.
    """
    import hotcoco

    rows, seconds, chosen = [np.zeros((0, 7), np.float32)], 0.0, {x["id"] for x in images}
    for i, image in enumerate(images):
        record = predictor.map_file(image["file_name"])
        if not i:
            predictor.run([record], _ignore)  # the first image takes longer
        start = time.perf_counter()
        (found,) = predictor.run([record], _ignore)
        seconds += time.perf_counter() - start
        rows.append(rows_from(image["id"], *found))
    found_rows = np.concatenate(rows)
    if not len(found_rows):
        return Measured(0.0, len(images) / seconds)
    coco = {
        **truth.coco,
        "images": list(images),
        "annotations": [x for x in truth.coco["annotations"] if x["image_id"] in chosen],
    }
    ground: Any = hotcoco.COCO(coco)
    evaluated: Any = hotcoco.COCOeval(ground, ground.loadRes(numbered_from_one(found_rows)), "bbox")
    params = evaluated.params
    params.max_dets = counted(most)
    evaluated.params = params
    evaluated.evaluate()
    evaluated.accumulate()
    return Measured(coco_figures(evaluated, truth.class_names)["AP"], len(images) / seconds)


def problems(precision: str, found: Differences, theirs: Measured | None, ours: Measured | None) -> list[str]:
    """Return how a file exceeds the bound of its precision; empty if it does not."""
    bound, wrong = BOUNDS[precision], []
    if bound.box is not None and found.lacking:
        wrong.append(f"{found.lacking} detections are in only one of file and checkpoint")
    if bound.box is not None and found.box > bound.box:
        wrong.append(f"boxes differ by up to {found.box:.3g} px (allowed: {bound.box})")
    if bound.score is not None and found.score > bound.score:
        wrong.append(f"scores differ by up to {found.score:.2g} (allowed: {bound.score})")
    if theirs and ours and abs(ours.ap - theirs.ap) > bound.ap:
        wrong.append(f"AP is {ours.ap:.2f} instead of {theirs.ap:.2f} (allowed: {bound.ap})")
    return wrong


def prove(
    exported: Any, reference: Any, own: Any, truth: GroundTruth | None, images: Sequence[dict]
) -> tuple[list[str], list[str]]:
    """Compare a file with its checkpoint.

    Args:
        exported: the file, an ``ExportedModel``.
        reference: the checkpoint in float32, a ``RetinaPredictor``.
        own: the checkpoint in the precision of its config, for the speed.
        truth: annotations of validation images; None: AP is not compared.
        images: those of ``truth.coco["images"]`` to use.

    Returns:
        What was found, as sentences, and how the file exceeds the bound of its precision.
    """
    if only := exported.metadata.input_size:
        images = [x for x in images if _takes(exported, np.zeros((x["height"], x["width"], 3), np.uint8))]
    most, files = exported.metadata.max_detections, [x["file_name"] for x in images[:SIZES_FROM]]
    found = compare_sizes(
        reference, exported, files, floor=exported.metadata.score_thresh, most=most, takes=partial(_takes, exported)
    )
    differ = f"boxes differ by up to {found.box:.2g} px, scores by up to {found.score:.2g}"
    lacking = f"{found.tied} ties, {found.lacking} in only one of file and checkpoint"
    lines = [f"takes images that become {only[0]} x {only[1]} pixels only"] if only else []
    lines += [f"{found.compared} detections in images of several sizes: {differ}; {lacking}"]
    if truth is None:
        lines.append("AP was not compared: no validation images here, give --data")
        return lines, problems(exported.metadata.precision, found, None, None)
    theirs, ours = (measure(x, truth, images, most=most) for x in (reference, exported))
    rate = measure(own, truth, images[:SPEED_IMAGES], most=most).rate
    precision = str(getattr(own.model, "autocast_dtype", None) or "float32").removeprefix("torch.")
    lines.append(f"AP on {len(images)} validation images: {ours.ap:.2f}; of the checkpoint {theirs.ap:.2f}")
    torch_rates = f"in torch {theirs.rate:.1f} (float32), {rate:.1f} ({precision})"
    lines.append(f"images/s, one at a time: {ours.rate:.1f}; {torch_rates}")
    return lines, problems(exported.metadata.precision, found, theirs, ours)
