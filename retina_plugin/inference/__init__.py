"""Prediction with a trained detector."""

from .drawing import draw_comparison
from .image import as_image
from .predictor import RetinaPredictor, load_predictor

__all__ = ["RetinaPredictor", "as_image", "draw_comparison", "load_predictor"]
