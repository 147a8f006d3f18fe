"""Merging what is detected in tiles and in mirrored copies."""

import pytest
import torch

from detectron2.structures import Boxes, Instances

from retina_plugin.data.image_views import VIEWS, Views
from retina_plugin.modeling.multi_view import MultiViewModel, cut_sides, merge_tiles, to_image

OBJECTS = torch.tensor([[10, 10, 30, 40], [95, 20, 125, 60], [60, 150, 230, 190], [205, 205, 245, 245]]).float()
"""Small, on a seam, longer than a tile, in the last corner."""


class Oracle(torch.nn.Module):
    """Detects the visible part of every object whose part is at least 4 px wide and high."""

    def forward(self, batched_inputs):
        return [{"instances": self.look(x)} for x in batched_inputs]

    def look(self, view):
        left, top, right, bottom = view["region"]
        origin = torch.tensor([left, top, left, top]).float()
        parts = torch.stack([OBJECTS[:, 0].clamp(left, right), OBJECTS[:, 1].clamp(top, bottom),
                             OBJECTS[:, 2].clamp(left, right), OBJECTS[:, 3].clamp(top, bottom)], dim=1)  # fmt: skip
        seen = (parts[:, 2:] - parts[:, :2] >= 4).all(dim=1)
        boxes = (parts - origin)[seen]
        if view["flipped"]:
            width = right - left
            boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
        scores = torch.linspace(0.9, 0.6, len(OBJECTS))[seen]
        classes = torch.arange(len(OBJECTS))[seen] % 2
        return Instances((bottom - top, right - left), pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)


def detect(views, size=(250, 250)):
    parts = [
        {"image": torch.zeros(3, 8, 8), "region": region, "flipped": flipped}
        for region in views.regions(*size)
        for flipped in ([False, True] if views.flip else [False])
    ]
    model = MultiViewModel(Oracle(), nms_thresh=0.5, max_detections=100)
    (found,) = model([{VIEWS: parts}])
    return found["instances"]


@pytest.mark.parametrize("tile", [100, 120, 160, 300])
@pytest.mark.parametrize("overlap", [0.2, 0.5])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_objects_are_found_once_and_whole_wherever_the_tiles_lie(tile, overlap, whole, flip):
    found = detect(Views(((100, 100),), flip=flip, tile=tile, overlap=overlap, whole=whole))
    order = found.pred_boxes.tensor[:, 0].argsort()
    assert torch.equal(found.pred_boxes.tensor[order], OBJECTS[OBJECTS[:, 0].argsort()])
    assert found.image_size == (250, 250)


def test_neighbours_on_both_sides_of_a_seam_stay_apart():
    """Each tile sees one of two objects whole and a part of the other."""
    regions = torch.tensor([[0, 0, 100, 100], [0, 0, 100, 100], [80, 0, 180, 100], [80, 0, 180, 100]]).float()
    boxes = torch.tensor([[70, 10, 90, 30], [92, 10, 100, 30], [80, 10, 90, 30], [92, 10, 112, 30]]).float()
    merged, scores, kept = merge_tiles(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.zeros(4), regions, (100, 180))
    assert (
        sorted(kept.tolist()) == [0, 3]
        and torch.equal(merged, boxes[kept])
        and scores.tolist()
        == [
            pytest.approx(0.9),
            pytest.approx(0.6),
        ]
    )


@pytest.mark.parametrize(
    "other", [([100, 60, 130, 90], 0), ([80, 12, 130, 50], 1)], ids=["a different height", "a different class"]
)
def test_parts_that_do_not_continue_each_other_are_not_joined(other):
    box, label = other
    regions = torch.tensor([[0, 0, 100, 100], [80, 0, 180, 100]]).float()
    boxes = torch.tensor([[60, 10, 100, 50], [80, *box[1:]]]).float()
    merged, *_ = merge_tiles(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, label]), regions, (100, 180))
    assert len(merged) == 2


def test_the_border_of_the_image_cuts_nothing():
    regions = torch.tensor([[0, 0, 100, 100], [80, 0, 180, 100]]).float()
    boxes = torch.tensor([[0, 0, 100, 100], [80, 50, 180, 100]]).float()
    assert cut_sides(boxes, regions, (100, 180)).tolist() == [[False, False, True, False], [True, False, False, False]]


def test_mirrored_boxes_are_mirrored_back():
    view = {"region": (10, 20, 110, 70), "flipped": True}
    assert to_image(torch.tensor([[0.0, 0.0, 30.0, 40.0]]), view).tolist() == [[80, 20, 110, 60]]


def test_inputs_without_views_go_through_unchanged():
    model = MultiViewModel(Oracle(), nms_thresh=0.5, max_detections=1)
    (found,) = model([{"region": (0, 0, 250, 250), "flipped": False}])
    assert len(found["instances"]) == len(OBJECTS)


def test_the_best_detections_are_kept():
    model = MultiViewModel(Oracle(), nms_thresh=0.5, max_detections=2)
    views = [{"image": torch.zeros(3, 8, 8), "region": (0, 0, 250, 250), "flipped": False}]
    (found,) = model([{VIEWS: views}])
    assert found["instances"].scores.tolist() == [pytest.approx(0.9), pytest.approx(0.8)]


@pytest.mark.parametrize("options, count", [({}, 4), ({"class_agnostic": True}, 4), ({"soft": "gaussian"}, 4)])
def test_suppression_follows_the_options(options, count):
    model = MultiViewModel(Oracle(), nms_thresh=0.5, max_detections=100, **options)
    views = [{"image": torch.zeros(3, 8, 8), "region": (0, 0, 250, 250), "flipped": False}]
    (found,) = model([{VIEWS: views}])
    assert len(found["instances"]) == count


class Crowd(torch.nn.Module):
    """Detects two objects that overlap (IoU 0.6), whose scores it has already lowered for that."""

    def forward(self, batched_inputs):
        boxes = torch.tensor([[10.0, 10, 30, 30], [15, 10, 35, 30]])
        found = Instances((100, 100), pred_boxes=Boxes(boxes), scores=torch.tensor([0.9, 0.4]))
        found.pred_classes = torch.zeros(2, dtype=torch.int64)
        return [{"instances": found} for _ in batched_inputs]


def test_with_soft_nms_scores_are_lowered_once():
    model = MultiViewModel(Crowd(), nms_thresh=0.5, max_detections=100, soft="gaussian", score_thresh=0.01)
    tiles = [{"image": torch.zeros(3, 8, 8), "region": region, "flipped": False}
             for region in ((0, 0, 100, 100), (200, 0, 300, 100))]  # fmt: skip
    (found,) = model([{VIEWS: tiles}])
    assert sorted(found["instances"].scores.tolist()) == pytest.approx([0.4, 0.4, 0.9, 0.9])


def test_views_of_equal_size_share_a_batch():
    sizes = []

    class Counts(Oracle):
        def forward(self, batched_inputs):
            sizes.append(len(batched_inputs))
            return super().forward(batched_inputs)

    shapes = [(8, 8)] * 5 + [(8, 6)]
    views = [{"image": torch.zeros(3, *s), "region": (0, 0, 250, 250), "flipped": False} for s in shapes]
    MultiViewModel(Counts(), nms_thresh=0.5, max_detections=100)([{VIEWS: views}])
    assert sizes == [4, 1, 1]
