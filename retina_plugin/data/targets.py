"""Boxes and labels of a training image after its transforms."""

import numpy as np
import torch

from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances

from retina_plugin.data.mixing import cut, joined

MOST_EMPTY = 1e-5
"""Boxes with a side shorter than this, in pixels, are left out after the augmentations, as in Detectron2."""


def original_boxes(annotations: list[dict]) -> np.ndarray:
    """Return the boxes of annotations as (M, 4) XYXY float64, pixels of the original image."""
    original = np.zeros((len(annotations), 4))
    for mode in {x["bbox_mode"] for x in annotations}:
        chosen = [i for i, x in enumerate(annotations) if x["bbox_mode"] == mode]
        values = np.array([annotations[i]["bbox"] for i in chosen], dtype=float)
        original[chosen] = BoxMode.convert(values, mode, BoxMode.XYXY_ABS)
    return original


def boxes_of(
    annotations: list[dict], transforms: T.TransformList, image_size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Apply the transforms of an image to its boxes, and clip them to it.

    Args:
        annotations: Detectron2's, in pixels of the original image.
        transforms: from the original image to the network input.
        image_size: (height, width) of the network input, pixels.

    Returns:
        Boxes (M, 4) XYXY float32, pixels of the network input, and (M,) bool, whether each still has an area.
    """
    height, width = image_size
    clipped = np.minimum(transforms.apply_box(original_boxes(annotations)).clip(min=0), [width, height, width, height])
    boxes = torch.from_numpy(clipped).float()
    return boxes, (boxes[:, 2:] - boxes[:, :2] > MOST_EMPTY).all(dim=1)


def window_of(annotations: list[dict], transforms: T.TransformList, image_size: tuple[int, int]) -> dict:
    """Return the "instances" and "ignore_boxes" of a part of an image.

    Crowds, and objects of which too little is visible, become ignore boxes.

    Args:
        annotations: Detectron2's, in pixels of the original image.
        transforms: from the original image to the network input.
        image_size: (height, width) of the network input, pixels.
    """
    is_crowd = torch.tensor([bool(x.get("iscrowd", 0)) for x in annotations], dtype=torch.bool)
    boxes = torch.from_numpy(transforms.apply_box(original_boxes(annotations))).float()
    instances = Instances(image_size)
    instances.gt_boxes = Boxes(boxes[~is_crowd])
    instances.gt_classes = torch.tensor([x["category_id"] for x in annotations], dtype=torch.int64)[~is_crowd]
    sample = {"instances": instances, "ignore_boxes": boxes[is_crowd]}
    return joined([cut(sample, (0, 0, image_size[1], image_size[0]), shift=(0, 0))], image_size)


def to_instances(annotations: list[dict], transforms: T.TransformList, image_size: tuple[int, int]) -> Instances:
    """Return the boxes and classes of an image after its transforms, without crowds and what was cropped away.

    Args:
        annotations: Detectron2's, in pixels of the original image.
        transforms: from the original image to the network input.
        image_size: (height, width) of the network input, pixels.

    Returns:
        ``Instances`` with ``gt_boxes`` (M, 4) XYXY, pixels of the network input, and ``gt_classes`` (M,) int64.
    """
    annotations = [x for x in annotations if not x.get("iscrowd", 0)]
    boxes, keep = boxes_of(annotations, transforms, image_size)
    instances = Instances(image_size)
    instances.gt_boxes = Boxes(boxes[keep])
    instances.gt_classes = torch.tensor([x["category_id"] for x in annotations], dtype=torch.int64)[keep]
    return instances
