"""Pictures of the ground truth that anchors cover, and of the boxes that they do not."""

from collections.abc import Callable

import numpy as np

from retina_plugin.analysis.coverage import GroundTruth
from retina_plugin.report.dataset_page import read_bgr
from retina_plugin.report.drawing import captioned, draw_boxes, fitting_scale, flow, legend

MATCHED, MISSED = 0, 1
COLOURS = np.array([[136, 153, 0], [17, 51, 204]], dtype=np.uint8)
"""Green for boxes with an anchor at IoU >= 0.5, red for those without (BGR), distinguishable by colour-blind people."""

IN_A_ROW = 3
"""Pictures per row at their usual width; pictures of small boxes are larger, so fewer fit."""


def worst_sheet(
    records: list[dict],
    truth: GroundTruth,
    best: np.ndarray,
    *,
    count: int = 6,
    width: int = 420,
    read: Callable[[str], np.ndarray] = read_bgr,
) -> np.ndarray:
    """Draw the images with the most boxes without an anchor, each box with its best IoU.

    Boxes are green from an IoU of 0.5 on, red below. If every box has an anchor, the image with the lowest best IoU is
    drawn.

    Args:
        records: Detectron2's dataset dicts that ``truth`` was made from.
        truth: their boxes at network resolution.
        best: (M,) best IoU of each box.
        count: maximum number of images.
        width: width of each picture, pixels; larger if boxes are small.
        read: reads a file as (h, w, 3) uint8, BGR; an image that it refuses is skipped.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    missed = np.bincount(truth.image[best < 0.5], minlength=len(records))
    drawn = []
    lowest = np.full(len(records), np.inf)
    np.minimum.at(lowest, truth.image, best)
    order = np.lexsort((lowest, -missed))
    for i in order[: min(count, max(int((missed > 0).sum()), 1))]:
        try:
            image = np.ascontiguousarray(read(records[i]["file_name"]))
        except (OSError, ValueError):
            continue
        mine = truth.image == i
        boxes = truth.boxes[mine] * (image.shape[1] / truth.sizes[i, 1])
        kinds = np.where(best[mine] >= 0.5, MATCHED, MISSED).tolist()
        scale = fitting_scale(image.shape[:2], boxes, width=width)
        picture = draw_boxes(image, boxes, [f"{v:.2f}" for v in best[mine]], kinds, scale=scale, colours=COLOURS)
        drawn.append(captioned(picture, f"{missed[i]} of {mine.sum()} boxes without an anchor"))
    pictures = flow(drawn or [np.full((width // 4, width, 3), 255, np.uint8)], width=IN_A_ROW * (width + 6))
    explained = legend(
        [("anchor at IoU >= 0.5", COLOURS[MATCHED]), ("no anchor; the numbers are the best IoU", COLOURS[MISSED])],
        pictures.shape[1],
    )
    return np.vstack([pictures, explained])
