"""ATSS compared with a plain loop over its algorithm."""

import pytest
import torch

from detectron2.structures import Boxes, pairwise_iou

from retina_plugin.modeling import atss
from retina_plugin.modeling.anchors import PyramidAnchorGenerator
from retina_plugin.modeling.atss import ATSSAssigner

K = 3


def levels():
    """Return the anchors of two levels, two per location."""
    generator = PyramidAnchorGenerator(
        sizes=[[24.0, 32.0], [48.0, 64.0]], aspect_ratios=[[1.0]], strides=[8, 16], offset=0.5
    )
    return [boxes.tensor for boxes in generator([torch.zeros(1, 1, 12, 16), torch.zeros(1, 1, 6, 8)])]


def random_boxes(n):
    corner = torch.rand(n, 2) * torch.tensor([80.0, 50.0])
    return torch.cat([corner, corner + 12 + torch.rand(n, 2) * 40], dim=1)


def plainly(anchors, boxes, classes, topk):
    """Run the algorithm box by box."""
    everything = torch.cat(anchors)
    centres = (everything[:, :2] + everything[:, 2:]) / 2
    iou = pairwise_iou(Boxes(boxes), Boxes(everything))
    best, owner = torch.zeros(len(everything)), torch.full((len(everything),), -1)
    for m, box in enumerate(boxes):
        candidates, start = [], 0
        for level in anchors:
            distance = (centres[start : start + len(level)] - (box[:2] + box[2:]) / 2).norm(dim=1)
            candidates += [start + i for i in distance.topk(min(topk * 2, len(level)), largest=False).indices.tolist()]
            start += len(level)
        threshold = iou[m, candidates].mean() + iou[m, candidates].std()
        for r in candidates:
            inside = min(*(centres[r] - box[:2]).tolist(), *(box[2:] - centres[r]).tolist()) > 0.01
            if iou[m, r] >= threshold and inside and iou[m, r] > best[r]:
                best[r], owner[r] = iou[m, r], m
    return torch.where(owner >= 0, classes[owner.clamp(min=0)], K), owner


@pytest.mark.parametrize("num_boxes", [1, 6, 30])
def test_random_boxes_follow_the_algorithm(monkeypatch, num_boxes):
    monkeypatch.setattr(atss, "BOXES_AT_ONCE", 4)
    anchors, boxes, classes = levels(), random_boxes(num_boxes), torch.randint(0, K, (num_boxes,))
    labels, matched = ATSSAssigner(atss_topk=4, num_anchors=2)(anchors, [boxes], [classes], K)
    want, owner = plainly(anchors, boxes, classes, topk=4)
    assert labels[0].tolist() == want.tolist()
    foreground = labels[0] < K
    assert foreground.any() and matched[0][foreground].tolist() == owner[foreground].tolist()


def test_indices_count_all_boxes_and_an_image_without_boxes_is_background():
    anchors, boxes = levels(), [random_boxes(3), torch.zeros(0, 4), random_boxes(2)]
    classes = [torch.zeros(len(b), dtype=torch.int64) for b in boxes]
    labels, matched = ATSSAssigner(atss_topk=9, num_anchors=2)(anchors, boxes, classes, K)
    assert (labels[1] == K).all() and (labels[0] < K).any()
    assert set(matched[2][labels[2] < K].tolist()) <= {3, 4}


def test_fewer_than_one_location_is_refused():
    with pytest.raises(ValueError, match="ATSS_TOPK"):
        ATSSAssigner(atss_topk=0, num_anchors=9)
