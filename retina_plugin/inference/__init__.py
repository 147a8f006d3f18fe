"""Prediction with a trained detector."""

from typing import TYPE_CHECKING

from retina_plugin.lazy import lazy_names

if TYPE_CHECKING:
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

__getattr__ = lazy_names(
    __name__,
    {
        "Prediction": "stream",
        "PredictionFiles": "output",
        "RetinaPredictor": "predictor",
        "as_image": "image",
        "draw_comparison": "drawing",
        "find_sources": "sources",
        "load_predictor": "predictor",
        "predict_stream": "stream",
    },
)
