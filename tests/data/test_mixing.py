"""Mosaic and mixup: pixels and boxes are where they belong."""

import numpy as np
import pytest
import torch

from detectron2.structures import Boxes, Instances

from retina_plugin.data.mixing import FILL, MixedSamples, copy_paste, cut, mixup, mosaic


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
    mixed = MixedSamples(data, mosaic=0.8, mixup=0.5, copy_paste=0.7)
    for out in (mixed[i] for i in range(8)):
        height, width = out["image"].shape[-2:]
        boxes = torch.cat([out["instances"].gt_boxes.tensor, out.get("ignore_boxes", torch.zeros(0, 4))])
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
        assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all() and out["instances"].image_size == (height, width)
        assert len(out["instances"].gt_boxes) == len(out["instances"].gt_classes)


def test_with_probability_0_nothing_changes():
    data = [sample(1), sample(2)]
    assert MixedSamples(data, mosaic=0.0, mixup=0.0)[1] is data[1]


def test_pasted_objects_lie_where_nothing_was(monkeypatch):
    monkeypatch.setattr(np.random, "rand", lambda *shape: np.zeros(shape))  # every object is taken
    np.random.seed(0)
    crowd = torch.tensor([[0.0, 60.0, 100.0, 80.0]])
    mine = sample(10, size=(80, 100), boxes=[(0, 0, 50, 60)], ignore_boxes=crowd)
    theirs = sample(240, size=(50, 50), boxes=[(5, 5, 25, 25), (30, 30, 40, 49.5)])
    before = mine["image"].clone()
    out = copy_paste(mine, theirs)
    assert torch.equal(mine["image"], before), "the original is not changed"
    boxes, classes = out["instances"].gt_boxes.tensor, out["instances"].gt_classes
    assert len(boxes) == 3 and classes.tolist() == [3, 240 % 7, 240 % 7]
    assert (boxes[1:, 0] >= 50).all() and (boxes[1:, 3] <= 60).all(), "right of the object and above the crowd"
    assert (boxes[1, 2:] - boxes[1, :2]).tolist() == [20, 20] and (boxes[2, 2:] - boxes[2, :2]).tolist() == [10, 19.5]
    x, y = ((boxes[1, :2] + boxes[1, 2:]) / 2).int().tolist()
    assert out["image"][0, y, x] == 240
    x1, y1 = boxes[1, :2].int().tolist()
    # The border is 20 / 10 = 2 px wide, and the corner is 0.5 px inside: a quarter of 240, three quarters of 10.
    assert out["image"][0, y1, x1] == round(0.25 * 240 + 0.75 * 10)
    assert out["image"].dtype == torch.uint8


def test_objects_that_touch_another_or_do_not_fit_are_not_pasted():
    for seed in range(10):
        np.random.seed(seed)
        mine = sample(10, size=(30, 30), boxes=[])
        touching = sample(1, size=(50, 50), boxes=[(0, 0, 20, 20), (15, 0, 25, 20)])
        assert copy_paste(mine, touching) is mine
        assert copy_paste(mine, sample(1, size=(50, 50), boxes=[(0, 0, 10, 45)])) is mine
        assert copy_paste(mine, sample(1, boxes=[])) is mine
