"""Descriptions of images by a detector's own features."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from retina_plugin.inference.predictor import RetinaPredictor
from retina_plugin.inference.stream import Found

FILE = "file_name"
"""Key of a record: the path of its image."""


class EmbeddingPredictor:
    """A predictor that also keeps a description of each image: means and spreads of its coarsest feature map.

    Args:
        predictor: without tiles or test-time augmentation, which see parts of images.

    Attributes:
        features: path of an image -> (2 C,) float32.
    """

    has_views = False

    def __init__(self, predictor: RetinaPredictor) -> None:
        self.predictor, self.max_pixels = predictor, predictor.max_pixels
        self.features: dict[str, np.ndarray] = {}
        self._maps: torch.Tensor | None = None
        predictor.model.backbone.register_forward_hook(self._keep)

    def _keep(self, module: torch.nn.Module, inputs: Any, outputs: dict[str, torch.Tensor]) -> None:
        """Keep the coarsest feature map (N, C, H, W) of a batch."""
        self._maps = min(outputs.values(), key=lambda x: x.shape[-1] * x.shape[-2])

    def map_file(self, file: str) -> dict:
        """Return the record of a file, see :class:`retina_plugin.inference.stream.Predictor`."""
        return {**self.predictor.map_file(file), FILE: file}

    def map_array(self, image: np.ndarray, name: str) -> dict:
        """Return the record of an image (H, W, 3) uint8, BGR."""
        return {**self.predictor.map_array(image, name), FILE: name}

    def run(self, records: list[dict], passed: Callable[[str], None]) -> list[Found]:
        """Detect, and describe the images."""
        found = self.predictor.run(records, passed)
        assert self._maps is not None, "the network has run"
        maps = self._maps.float()
        described = torch.cat([maps.mean(dim=(2, 3)), maps.std(dim=(2, 3), unbiased=False)], dim=1).cpu().numpy()
        for record, feature in zip(records, described, strict=True):
            self.features[record[FILE]] = feature
        return found
