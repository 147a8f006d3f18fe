"""The part of a detector that leaves the project as a file: normalisation, network and head, or everything."""

from typing import Any

import torch
from torch import Tensor, nn

from retina_plugin.modeling.meta_arch import RetinaPluginNet
from retina_plugin.modeling.postprocess import detect


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
        logits, deltas = _raw(model, images)
        flat_logits = torch.cat([_flat(x, model.num_classes) for x in logits], dim=1)
        flat_deltas = torch.cat([_flat(x, 4) for x in deltas], dim=1)
        return flat_logits, flat_logits.amax(dim=2), flat_deltas


class WholeGraph(nn.Module):
    """Pixels of one image in, its detections out.

    Args:
        model: in evaluation mode, on the CPU.
    """

    def __init__(self, model: RetinaPluginNet) -> None:
        super().__init__()
        self.model = model
        generator: Any = model.anchor_generator
        self.strides, self.offset = [int(x) for x in generator.strides], float(generator.offset)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes (D, 4) XYXY in pixels of the input, scores (D,) descending, and labels (D,) int64.

        Args:
            images: (1, C, H, W), see :meth:`DetectorGraph.forward`.
        """
        model: Any = self.model
        logits, deltas = _raw(model, images)
        anchors = [
            self._anchors(x, cell, stride)
            for x, cell, stride in zip(logits, model.anchor_generator.cell_anchors, self.strides, strict=True)
        ]
        found = detect(
            anchors,
            [_flat(x, model.num_classes)[0] for x in logits],
            [_flat(x, 4)[0] for x in deltas],
            (0, 0),  # boxes are not clipped here
            transform=model.box2box_transform,
            score_thresh=model.score_thresh_test,
            topk=model.topk_candidates_test,
            nms_thresh=model.nms_thresh_test,
            max_detections=model.max_detections,
            class_agnostic=model.class_agnostic_nms,
        )
        return found.pred_boxes.tensor, found.scores, found.pred_classes

    def _anchors(self, x: Tensor, cell: Tensor, stride: int) -> Tensor:
        """Return the anchors (Ri, 4) of an output (1, *, Hi, Wi); the trace keeps Hi and Wi free."""
        rows = (torch.arange(x.shape[2], dtype=torch.float32) + self.offset) * stride
        columns = (torch.arange(x.shape[3], dtype=torch.float32) + self.offset) * stride
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
        return (shifts + cell).reshape(-1, 4)


def _raw(model: Any, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the logits and deltas of the levels for images (N, C, H, W) of 0..255."""
    features = model.backbone((images - model.pixel_mean) / model.pixel_std)
    return model.head([features[name] for name in model.head_in_features])


def _flat(x: Tensor, columns: int) -> Tensor:
    """Return an output (N, A columns, Hi, Wi) as (N, Hi Wi A, columns), anchors in Detectron2's order."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, columns)
