"""Boxes and labels after the transforms of an image."""

import numpy as np
import torch

from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from retina_plugin.data.targets import boxes_of, original_boxes, to_instances, window_of

HALF = T.TransformList([T.ResizeTransform(20, 40, 10, 20)])
"""From an image of 20 x 40 px to one of 10 x 20 px."""


def annotation(box, label=0, mode=BoxMode.XYXY_ABS, crowd=0):
    return {"bbox": box, "bbox_mode": mode, "category_id": label, "iscrowd": crowd}


def test_without_annotations_the_instances_are_empty():
    instances = to_instances([], T.TransformList([]), (10, 20))
    assert instances.gt_boxes.tensor.shape == (0, 4) and instances.gt_classes.dtype == torch.int64
    found = window_of([], T.TransformList([]), (10, 20))
    assert len(found["instances"]) == 0 and found["ignore_boxes"].shape == (0, 4)
    assert original_boxes([]).shape == (0, 4)


def test_boxes_of_different_modes_keep_their_order():
    boxes = [annotation([1, 2, 3, 4]), annotation([1, 2, 3, 4], mode=BoxMode.XYWH_ABS), annotation([5, 6, 7, 8])]
    assert np.array_equal(original_boxes(boxes), [[1, 2, 3, 4], [1, 2, 4, 6], [5, 6, 7, 8]])


def test_boxes_are_clipped_and_those_outside_have_no_area():
    boxes, keep = boxes_of([annotation([30, 10, 60, 18]), annotation([50, 0, 60, 10])], HALF, (10, 20))
    assert boxes[0].tolist() == [15, 5, 20, 9] and keep.tolist() == [True, False]


def test_crowds_are_no_instances_but_ignored_in_a_window():
    some = [annotation([0, 0, 8, 8], 1), annotation([10, 0, 20, 10], 2, crowd=1), annotation([36, 0, 80, 10], 3)]
    assert to_instances(some, HALF, (10, 20)).gt_classes.tolist() == [1, 3]
    found = window_of(some, HALF, (10, 20))
    # Of the last box, 4 of 44 columns are visible, which is too little to be learned.
    assert found["instances"].gt_classes.tolist() == [1] and found["instances"].gt_boxes.tensor.tolist() == [
        [0, 0, 4, 4]
    ]
    assert sorted(found["ignore_boxes"].tolist()) == [[5, 0, 10, 5], [18, 0, 20, 5]]
