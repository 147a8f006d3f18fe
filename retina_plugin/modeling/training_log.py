"""What a training logs of the detector: pictures of its predictions, and the losses of each level and class."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage, has_event_storage
from detectron2.utils.visualizer import Visualizer

from retina_plugin.modeling.details import logged_details, loss_details
from retina_plugin.modeling.losses import ClassTargets
from retina_plugin.modeling.postprocess import Predictions

VISUALIZED_DETECTIONS = 20
"""Most predictions drawn in a picture of VIS_PERIOD."""


def is_due(period: int, *, after: int = 0) -> bool:
    """Return whether the current iteration plus ``after`` is a multiple of ``period``; never for a period of 0."""
    return period > 0 and has_event_storage() and (get_event_storage().iter + after) % period == 0


def training_picture(image: Tensor, gt_boxes: Boxes, predicted: Instances, *, input_format: str) -> np.ndarray:
    """Draw the ground truth of an image on the left and its highest-scoring predictions on the right.

    Args:
        image: (C, H, W), 0..255, on the CPU.
        gt_boxes: (M, 4), XYXY pixels of ``image``.
        predicted: ``pred_boxes`` (D, 4), the same, and ``scores`` (D,), on the CPU.
        input_format: channel order of ``image``, INPUT.FORMAT.

    Returns:
        RGB picture (3, H, 2 W), uint8.
    """
    best = predicted.scores.argsort(descending=True)[:VISUALIZED_DETECTIONS]
    picture = convert_image_to_rgb(image.permute(1, 2, 0), input_format)
    drawn = [
        Visualizer(picture).overlay_instances(boxes=boxes.tensor.cpu().numpy()).get_image()
        for boxes in (gt_boxes, predicted.pred_boxes[best])
    ]
    return np.concatenate(drawn, axis=1).transpose(2, 0, 1)  # (H, 2 W, 3) to (3, H, 2 W)


class TrainingLog(nn.Module):
    """Base of the meta-architecture: the methods that log its training to Detectron2's event storage."""

    head_in_features: list[str]
    input_format: str
    cls_loss: Callable[[list[Tensor], ClassTargets], Tensor]
    box_loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    inference: Callable[..., list[dict[str, Instances]]]

    def log_details(self, predictions: Predictions, targets: ClassTargets, normalizer: Tensor | int) -> None:
        """Log the losses of each level and class, from logits L x (N, Ri, K); sums are divided by the normaliser."""
        levels = [level.tensor for level in predictions.anchors]
        details = loss_details(
            predictions.logits, predictions.deltas, levels, targets, cls_loss=self.cls_loss, box_loss=self.box_loss
        )
        is_mean = getattr(self.cls_loss, "normalized", False)
        for name, value in logged_details(details, self.head_in_features, normalizer, cls_is_mean=is_mean).items():
            get_event_storage().put_scalar(name, value, smoothing_hint=False)

    @torch.no_grad()
    def visualize_training(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        images: ImageList,
        batched_inputs: list[dict[str, Any]],
    ) -> None:
        """Log a picture of the first image: ground truth on the left, highest-scoring predictions on the right.

        Args:
            anchors: L ``Boxes`` of (Ri, 4).
            pred_logits: L x (N, Ri, K).
            pred_anchor_deltas: L x (N, Ri, 4).
            images: the batch.
            batched_inputs: N dicts with "image" and "instances".
        """
        inputs, first = batched_inputs[0], ImageList(images.tensor[:1], images.image_sizes[:1])
        # Without a size to return, predicted boxes are in pixels of the network input, as the ground truth is.
        sizeless = {key: value for key, value in inputs.items() if key not in ("height", "width")}
        logits, deltas = [x[:1] for x in pred_logits], [x[:1] for x in pred_anchor_deltas]
        (found,) = self.inference(anchors, logits, deltas, first, [sizeless])
        gt_boxes, predicted = inputs["instances"].gt_boxes, found["instances"].to("cpu")
        picture = training_picture(inputs["image"], gt_boxes, predicted, input_format=self.input_format)
        get_event_storage().put_image("left: ground truth, right: predictions", picture)
