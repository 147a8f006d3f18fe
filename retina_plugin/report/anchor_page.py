"""Pictures of ground truth that anchors cover, and of what they do not."""

from collections.abc import Callable
from functools import partial

import numpy as np

from retina_plugin.data.pixels import read_image
from retina_plugin.analysis.coverage import GroundTruth
from retina_plugin.report.drawing import captioned, draw_boxes, fitting_scale, flow, legend

MATCHED, MISSED = 0, 1
COLOURS = np.array([[136, 153, 0], [17, 51, 204]], dtype=np.uint8)
"""Green for an anchor at IoU >= 0.5, red for none (BGR); a green and a red that colour-blind people tell apart."""

IN_A_ROW = 3
"""Pictures of the ordinary width; where boxes are small pictures are larger, and fewer stand in a row."""


def worst_sheet(
    records: list[dict],
    truth: GroundTruth,
    best: np.ndarray,
    *,
    count: int = 6,
    width: int = 420,
    read: Callable[[str], np.ndarray] = partial(read_image, image_format="BGR"),
) -> np.ndarray:
    """Draw the images with the most boxes without an anchor, each box with its best IoU: green from 0.5 on, red below.

    Where every box has one, the image with the lowest best IoU is shown.

    Args:
        records: Detectron2's dataset dicts, those ``truth`` is of.
        truth: their boxes at network resolution.
        best: (M,) the best IoU of each.
        count: images.
        width: of each picture, pixels; more where boxes are small.
        read: (h, w, 3) uint8, BGR, of a file; an image that it refuses is passed over.
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
        [("an anchor at IoU >= 0.5", COLOURS[MATCHED]), ("none; the numbers are the best IoU", COLOURS[MISSED])],
        pictures.shape[1],
    )
    return np.vstack([pictures, explained])
