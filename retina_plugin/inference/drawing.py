"""Pictures that compare predictions with the ground truth."""

import cv2
import numpy as np

from detectron2.data import Metadata
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances

from retina_plugin.data.pixels import build_reader
from retina_plugin.inference.predictor import FALLBACK_SCORE
from retina_plugin.report.drawing import PALETTE, draw_boxes, fitting_scale, legend, sheet

GAP, TITLE_HEIGHT = 6, 30
"""Pixels between pictures, and height of the title."""


def draw_comparison(
    predictor: DefaultPredictor,
    records: list[dict],
    *,
    min_score: float | None = None,
    columns: int = 2,
    width: int = 384,
) -> np.ndarray:
    """Draw the ground truth of each image next to its predictions, on one sheet with a legend.

    Args:
        predictor: called with each image; its metadata names the classes.
        records: Detectron2's dataset dicts with XYXY_ABS boxes.
        min_score: minimum score of drawn predictions, 0..1; None: the one with the best F1 in the last evaluation,
            which the checkpoint holds, else 0.5.
        columns: maximum number of pairs per row.
        width: width of each picture, pixels; larger if boxes are small.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ValueError: there are no records.
        ImageError: an image cannot be read.
    """
    if not records:
        raise ValueError("no images to draw: the list of records is empty")
    if min_score is None:
        min_score = float((getattr(predictor, "info", {}).get("thresholds") or {}).get("all", FALLBACK_SCORE))
    drawn = [_draw_pair(predictor, predictor.metadata, record, min_score, width) for record in records]
    shown = sorted({k for _, classes in drawn for k in classes})
    columns = max(1, min(columns, len(drawn)))
    pictures = sheet([pair for pair, _ in drawn], columns=columns, gap=GAP)
    names = predictor.metadata.thing_classes
    entries = [(names[k], PALETTE[k % len(PALETTE)]) for k in shown]
    text = f"pairs: ground truth left, predictions with a score of at least {min_score:.2g} right"
    return np.vstack([_title(text, pictures.shape[1]), pictures, legend(entries, pictures.shape[1])])


def _title(text: str, width: int) -> np.ndarray:
    """Return a white strip (TITLE_HEIGHT, width, 3) with a line of text, smaller if the strip is narrow."""
    strip, size = np.full((TITLE_HEIGHT, width, 3), 255, np.uint8), 0.55
    size *= min(1.0, (width - 2 * GAP) / cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0])
    cv2.putText(strip, text, (GAP, 21), cv2.FONT_HERSHEY_SIMPLEX, size, (60, 60, 60), 1, cv2.LINE_AA)
    return strip


def _draw_pair(
    predictor: DefaultPredictor, metadata: Metadata, record: dict, min_score: float, width: int
) -> tuple[np.ndarray, set[int]]:
    """Draw ground truth left and predictions right, at the same scale: (H, W, 3) uint8, BGR; and return the classes."""
    image = np.ascontiguousarray(build_reader(predictor.cfg, "BGR")(record["file_name"]))
    names = metadata.thing_classes
    truth = [a for a in record["annotations"] if not a.get("iscrowd")]
    boxes, classes = np.array([a["bbox"] for a in truth], dtype=float).reshape(-1, 4), [a["category_id"] for a in truth]
    scale = fitting_scale(image.shape[:2], boxes, width=width)
    left = draw_boxes(image, boxes, [names[k] for k in classes], classes, scale=scale)
    found: Instances = predictor(image)["instances"].to("cpu")
    found = found[found.scores >= min_score]
    kinds = found.pred_classes.tolist()
    labels = [f"{names[k]} {score:.2f}" for k, score in zip(kinds, found.scores.tolist(), strict=True)]
    right = draw_boxes(image, found.pred_boxes.tensor.numpy(), labels, kinds, scale=scale)
    return np.hstack([left, np.full((left.shape[0], GAP, 3), 255, np.uint8), right]), {*classes, *kinds}
