"""Using a trained detector."""

from .drawing import draw_comparison
from .predictor import load_predictor

__all__ = ["draw_comparison", "load_predictor"]
