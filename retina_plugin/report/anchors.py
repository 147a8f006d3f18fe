"""Pictures of ground truth that anchors cover, and of what they do not."""

import numpy as np

from retina_plugin.data.mapper import read_image
from retina_plugin.evaluation.coverage import GroundTruth
from retina_plugin.report.drawing import draw_boxes, sheet

MATCHED, MISSED = 0, 1
COLOURS = np.array([[60, 160, 40], [40, 40, 220]], dtype=np.uint8)
"""Green for an anchor at IoU >= 0.5, red for none (BGR)."""


def worst_sheet(records: list[dict], truth: GroundTruth, best: np.ndarray, *, count: int = 6, width: int = 420) -> np.ndarray:
    """The images with the most boxes without an anchor, each box with its best IoU: green from 0.5 on, red below.

    Args:
        records: Detectron2's dataset dicts, those ``truth`` is of.
        truth: their boxes at network resolution.
        best: (M,) the best IoU of each.
        count: images.
        width: of each picture, pixels.
    """
    missed = np.bincount(truth.image[best < 0.5], minlength=len(records))
    drawn = []
    for i in np.argsort(-missed, kind="stable")[:count]:
        image = np.ascontiguousarray(read_image(records[i]["file_name"], "BGR"))
        mine = truth.image == i
        boxes = truth.boxes[mine] * (image.shape[1] / truth.sizes[i, 1])
        kinds = np.where(best[mine] >= 0.5, MATCHED, MISSED).tolist()
        drawn.append(draw_boxes(image, boxes, [f"{v:.2f}" for v in best[mine]], kinds, scale=width / image.shape[1], colours=COLOURS))
    return sheet(drawn, columns=min(3, len(drawn)))
