"""SAHI on a checkpoint or an exported file: sliced prediction with SAHI's own merging.

pip install sahi

from retina_model import RetinaDetectionModel
from sahi.predict import get_sliced_prediction

model = RetinaDetectionModel(model_path="output/pets/model_best.pth", confidence_threshold=0.3, device="cpu")
result = get_sliced_prediction("large.jpg", model, slice_height=640, slice_width=640)
"""

from typing import Any

import numpy as np
from sahi.models.base import DetectionModel
from sahi.prediction import ObjectPrediction

from retina_plugin.export.runtime import SUFFIXES, ExportedModel
from retina_plugin.inference import load_predictor


class RetinaDetectionModel(DetectionModel):
    """A detector of the plugin as SAHI sees it."""

    def load_model(self) -> None:
        """Load ``model_path``: a checkpoint, or a file of ``retina export``."""
        path, score = str(self.model_path), self.confidence_threshold
        if path.endswith(SUFFIXES):
            self.set_model(ExportedModel(path, score=score))
        else:
            self.set_model(load_predictor(path, score_thresh=score, device=str(self.device)))

    def set_model(self, model: Any, **kwargs: Any) -> None:
        """Take a predictor."""
        self.model = model
        self.category_mapping = {str(i): name for i, name in enumerate(model.class_names)}

    def perform_inference(self, image: np.ndarray) -> None:
        """Detect objects in an image (H, W, 3) uint8, RGB."""
        record = self.model.map_array(np.ascontiguousarray(image[:, :, ::-1]), "the slice")
        (self._original_predictions,) = self.model.run([record], lambda part: None)

    def _create_object_prediction_list_from_original_predictions(
        self,
        shift_amount_list: list[list[int | float]] | None = None,
        full_shape_list: list[list[int | float]] | None = None,
    ) -> None:
        """Move the detections to their place in the whole image."""
        shift = _first(shift_amount_list) or [0, 0]
        boxes, scores, labels = self._original_predictions
        self._object_prediction_list_per_image = [
            [
                ObjectPrediction(
                    bbox=box,
                    score=score,
                    category_id=label,
                    category_name=self.model.class_names[label],
                    shift_amount=shift,
                    full_shape=_first(full_shape_list),
                )
                for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
                if box[2] > box[0] and box[3] > box[1]
            ]
        ]


def _first(values: Any) -> Any:
    """Return the first of several lists; SAHI gives a single one as it is."""
    return values[0] if values and isinstance(values[0], list | tuple) else values
