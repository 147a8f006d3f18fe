"""The part of a detector that leaves the project as a file: normalisation, network and head."""

from typing import Any

import torch
from torch import Tensor, nn

from retina_plugin.modeling.meta_arch import RetinaPluginNet


class DetectorGraph(nn.Module):
    """Pixels in, raw predictions of all anchors out; everything after that depends on the number of detections.

    Args:
        model: in evaluation mode, on the CPU.
    """

    def __init__(self, model: RetinaPluginNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits (N, R, K), their maximum over classes (N, R) and the deltas (N, R, 4), in float32.

        Args:
            images: (N, C, H, W) float32, 0..255, in INPUT.FORMAT, padded with MODEL.PIXEL_MEAN to a multiple of the
                network's divisor.
        """
        model: Any = self.model
        normalised = (images - model.pixel_mean) / model.pixel_std
        features = model.backbone(normalised)
        logits, deltas = model.head([features[name] for name in model.head_in_features])
        flat_logits = torch.cat([_flat(x, model.num_classes) for x in logits], dim=1)
        flat_deltas = torch.cat([_flat(x, 4) for x in deltas], dim=1)
        return flat_logits, flat_logits.amax(dim=2), flat_deltas


def _flat(x: Tensor, columns: int) -> Tensor:
    """Return an output (N, A columns, Hi, Wi) as (N, Hi Wi A, columns), anchors in Detectron2's order."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, columns)
