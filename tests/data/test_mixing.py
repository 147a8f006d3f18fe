"""Mosaic and mixup: pixels and boxes are where they belong."""

import numpy as np
import pytest
import torch

from detectron2.structures import Boxes, Instances

from retina_plugin.data.mixing import FILL, MixedSamples, cut, mixup, mosaic


def sample(value, size=(40, 60), boxes=((10, 10, 30, 30),), **more):
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.full((len(boxes),), value % 7)
    image = torch.full((3, *size), value, dtype=torch.uint8)
    return {"image": image, "instances": instances, "file_name": str(value), **more}


def test_a_mosaic_by_hand():
    parts = [sample(v) for v in (10, 20, 30)] + [sample(40, size=(10, 10), boxes=[(0, 0, 10, 10)])]
    out = mosaic(parts, centre=np.array([0.5, 0.5]), corners=np.zeros((4, 2)))
    image = out["image"][0]
    assert image.shape == (40, 60) and out["file_name"] == "10"
    assert [int(image[y, x]) for y, x in ((0, 0), (0, 59), (39, 0), (20, 30), (39, 59))] == [10, 20, 30, 40, FILL]
    # Each quarter shows x 0..30, y 0..20 of its image, so half of the box (10, 10, 30, 30); the small image is whole.
    want = [[10, 10, 30, 20], [40, 10, 60, 20], [10, 30, 30, 40], [30, 20, 40, 30]]
    assert out["instances"].gt_boxes.tensor.tolist() == want
    assert out["instances"].gt_classes.tolist() == [3, 6, 2, 5] and len(out["ignore_boxes"]) == 0


def test_a_box_that_is_mostly_cut_off_is_ignored_and_one_outside_is_dropped():
    original = sample(1, boxes=[(0, 0, 20, 20), (15, 15, 25, 25), (40, 5, 50, 9)])
    boxes, classes, ignored = cut(original, (0, 0, 19, 19), shift=(100, 0))
    assert boxes.tolist() == [[100, 0, 119, 19]] and classes.tolist() == [1]
    assert ignored.tolist() == [[115, 15, 119, 19]], "16 of 100 pixels"


def test_mixup_by_hand():
    crowd = torch.tensor([[0.0, 0.0, 5.0, 5.0]])
    out = mixup(sample(100, size=(20, 60)), sample(200, ignore_boxes=crowd), share=0.25)
    image = out["image"][0]
    assert image.shape == (40, 60) and image[0, 0] == 175 and image[39, 0] == round(0.25 * FILL + 0.75 * 200)
    assert out["instances"].gt_boxes.tensor.tolist() == [[10, 10, 30, 30]] * 2
    assert torch.equal(out["ignore_boxes"], crowd)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_stay_inside_and_have_an_area(seed):
    rng = np.random.default_rng(seed)
    data = []
    for value in range(8):
        size = tuple(int(v) for v in rng.integers(20, 90, 2))
        corner = rng.uniform(0, 1, (rng.integers(0, 6), 2)) * (size[1] - 8, size[0] - 8)
        opposite = np.minimum(corner + rng.uniform(3, 40, corner.shape), (size[1], size[0]))
        data.append(sample(value, size=size, boxes=np.concatenate([corner, opposite], axis=1)))
    np.random.seed(seed)
    for out in (MixedSamples(data, mosaic=0.8, mixup=0.5)[i] for i in range(8)):
        height, width = out["image"].shape[-2:]
        boxes = torch.cat([out["instances"].gt_boxes.tensor, out.get("ignore_boxes", torch.zeros(0, 4))])
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
        assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all() and out["instances"].image_size == (height, width)
        assert len(out["instances"].gt_boxes) == len(out["instances"].gt_classes)


def test_with_probability_0_nothing_changes():
    data = [sample(1), sample(2)]
    assert MixedSamples(data, mosaic=0.0, mixup=0.0)[1] is data[1]
