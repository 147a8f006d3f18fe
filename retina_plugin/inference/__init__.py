"""Prediction with a trained detector."""

from .drawing import draw_comparison
from .image import as_image
from .output import PredictionFiles
from .predictor import RetinaPredictor, load_predictor
from .sources import find_sources
from .stream import Prediction, predict_stream

__all__ = [
    "Prediction",
    "PredictionFiles",
    "RetinaPredictor",
    "as_image",
    "draw_comparison",
    "find_sources",
    "load_predictor",
    "predict_stream",
]
