"""Pictures for people."""

import cv2
import numpy as np

from detectron2.data import Metadata
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances

from retina_plugin.data.pixels import build_reader
from retina_plugin.report.drawing import draw_boxes

GAP, TITLE_HEIGHT = 6, 30
"""Pixels between pictures, and of the line above them."""


def draw_comparison(
    predictor: DefaultPredictor, records: list[dict], *, min_score: float = 0.5, columns: int = 2, width: int = 384
) -> np.ndarray:
    """Ground truth beside the predictions of each image, on one sheet.

    Args:
        predictor: called with each image; its metadata names the classes.
        records: Detectron2's dataset dicts with XYXY_ABS boxes.
        min_score: least score that is drawn.
        columns: pairs beside one another.
        width: of each picture, pixels.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ValueError: there are no records.
        ImageError: an image cannot be read.
    """
    if not records:
        raise ValueError("there are no images to draw")
    pairs = [_draw_pair(predictor, predictor.metadata, record, min_score, width) for record in records]
    tallest = max(pair.shape[0] for pair in pairs)
    pairs = [cv2.copyMakeBorder(p, 0, tallest - p.shape[0] + GAP, GAP, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for p in pairs]
    pairs += [np.full_like(pairs[0], 255)] * (-len(pairs) % columns)
    rows = [np.hstack(pairs[i : i + columns]) for i in range(0, len(pairs), columns)]
    title = np.full((TITLE_HEIGHT, rows[0].shape[1], 3), 255, np.uint8)
    for column in range(columns):
        for side, text in enumerate(("ground truth", f"predictions, score over {min_score:g}")):
            left = column * pairs[0].shape[1] + GAP + side * (width + GAP)
            cv2.putText(title, text, (left, 21), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (60, 60, 60), 1, cv2.LINE_AA)
    return np.vstack([title, *rows])


def _draw_pair(predictor: DefaultPredictor, metadata: Metadata, record: dict, min_score: float, width: int) -> np.ndarray:
    """Ground truth left, predictions right."""
    image = np.ascontiguousarray(build_reader(predictor.cfg, "BGR")(record["file_name"]))
    names, scale = metadata.thing_classes, width / image.shape[1]
    truth = [a for a in record["annotations"] if not a.get("iscrowd")]
    left = draw_boxes(
        image, np.array([a["bbox"] for a in truth]).reshape(-1, 4), [names[a["category_id"]] for a in truth],
        [a["category_id"] for a in truth], scale=scale,
    )
    found: Instances = predictor(image)["instances"].to("cpu")
    found = found[found.scores >= min_score]
    right = draw_boxes(
        image, found.pred_boxes.tensor.numpy(), [f"{names[k]} {s:.2f}" for k, s in zip(found.pred_classes.tolist(), found.scores.tolist())],
        found.pred_classes.tolist(), scale=scale,
    )
    return np.hstack([left, np.full((left.shape[0], GAP, 3), 255, np.uint8), right])
