"""Suppression of duplicates with numpy."""

import numpy as np


def nms(boxes: np.ndarray, groups: np.ndarray, thresh: float, most: int) -> np.ndarray:
    """Return the indices of the boxes that non-maximum suppression keeps, at most ``most``.

    Args:
        boxes: (D, 4) XYXY, by descending score.
        groups: (D,); boxes of different groups do not suppress each other.
        thresh: IoU above which the worse of two boxes is dropped.
        most: boxes to keep.
    """
    left = boxes.astype(np.float64)
    areas = (left[:, 2] - left[:, 0]) * (left[:, 3] - left[:, 1])
    indices, keep = np.arange(len(boxes)), list[int]()
    while len(indices) and len(keep) < most:
        first, rest = indices[0], indices[1:]
        keep.append(int(first))
        low = np.maximum(left[first, :2], left[rest, :2])
        high = np.minimum(left[first, 2:], left[rest, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        union = areas[first] + areas[rest] - shared
        overlaps = (shared > thresh * union) & (groups[rest] == groups[first])
        indices = rest[~overlaps]
    return np.array(keep, dtype=np.int64)


def soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    *,
    kind: str,
    thresh: float,
    sigma: float,
    floor: float,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the boxes that soft suppression keeps and their lowered scores, the highest first.

    Args:
        boxes: (D, 4) XYXY, by descending score.
        scores: (D,).
        groups: (D,); boxes of different groups do not lower each other's scores.
        kind: "linear" multiplies a score by 1 - IoU if the IoU exceeds ``thresh``, "gaussian" by exp(-IoU² / sigma).
        thresh: for "linear".
        sigma: for "gaussian".
        floor: boxes whose score falls to it are dropped.
        most: boxes to keep.

    Source: Bodla et al. 2017, *Soft-NMS*, equations 2 and 3.
    """
    corners, left = boxes.astype(np.float64), scores.astype(np.float64).copy()
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    keep, kept = list[int](), list[float]()
    while len(keep) < min(most, len(boxes)):
        best = int(left.argmax())
        if left[best] <= floor:
            break
        keep.append(best)
        kept.append(float(left[best]))
        low = np.maximum(corners[best, :2], corners[:, :2])
        high = np.minimum(corners[best, 2:], corners[:, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        overlap = shared / np.maximum(areas[best] + areas - shared, 1e-12) * (groups == groups[best])
        left *= np.where(overlap > thresh, 1 - overlap, 1.0) if kind == "linear" else np.exp(-(overlap**2) / sigma)
        left[best] = -1.0
    return np.array(keep, dtype=np.int64), np.array(kept)
