"""Anchors computed by hand, compared with torchvision, and sizes that are refused."""

import pytest
import torch
from support import tiny_cfg

from detectron2.layers import ShapeSpec
from detectron2.modeling import build_anchor_generator

from retina_plugin.modeling.anchors import CACHE_SIZE, PyramidAnchorGenerator, anchor_sizes


def test_a_cell_of_two_by_one_worked_by_hand():
    # Size 32, stride 8, offset 0: area 1024; ratio h/w = 1 is 32 x 32, ratio 4 is w = 16, h = 64.
    generator = PyramidAnchorGenerator(sizes=[[32.0]], aspect_ratios=[[1.0, 4.0]], strides=[8], offset=0.0)
    (anchors,) = generator([torch.zeros(1, 1, 1, 2)])
    want = [[-16, -16, 16, 16], [-8, -32, 8, 32], [-8, -16, 24, 16], [0, -32, 16, 32]]
    torch.testing.assert_close(anchors.tensor, torch.tensor(want, dtype=torch.float32))


def test_default_sizes_are_the_papers_and_detectron2s():
    # Detectron2's Base-RetinaNet.yaml: x * 2**(j/3) for x in 32, 64, 128, 256, 512.
    got = anchor_sizes([8, 16, 32, 64, 128], scale=4.0, scales_per_octave=3)
    assert got == [[x * 2 ** (j / 3) for j in range(3)] for x in (32, 64, 128, 256, 512)]


def test_nine_anchors_per_location_by_default():
    shapes = [ShapeSpec(channels=16, stride=2**level) for level in (3, 4, 5, 6, 7)]
    assert build_anchor_generator(tiny_cfg(), shapes).num_anchors == [9] * 5


@pytest.mark.parametrize("levels", [[3, 4, 5], [2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 8]])
def test_sizes_follow_from_the_levels(levels):
    cfg = tiny_cfg("MODEL.RETINANET.LEVELS", levels)
    generator = build_anchor_generator(cfg, [ShapeSpec(stride=2**level) for level in levels])
    for level, cell in zip(levels, generator.cell_anchors, strict=True):
        # The second anchor is the square one of the smallest size.
        assert cell[1, 2] - cell[1, 0] == pytest.approx(4 * 2**level)


def test_explicit_sizes_are_used():
    cfg = tiny_cfg("MODEL.RETINANET.LEVELS", [3, 4, 5], "MODEL.ANCHOR_GENERATOR.SIZES", [[10.0], [20.0], [30.0]])
    generator = build_anchor_generator(cfg, [ShapeSpec(stride=s) for s in (8, 16, 32)])
    assert [round(float(cell[1, 2] * 2)) for cell in generator.cell_anchors] == [10, 20, 30]


@pytest.mark.parametrize(
    "sizes, message",
    [
        ([[32.0, 64.0]], "one row"),
        ([[32.0], [64.0]], "5 levels"),
        ([32.0, 64.0], "5 levels"),
        ([[1.0, 2.0], [1.0], [1.0], [1.0], [1.0]], "same number of anchors"),
    ],
)
def test_sizes_that_contradict_the_levels_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        PyramidAnchorGenerator(sizes=sizes, aspect_ratios=[[0.5, 1.0, 2.0]], strides=[8, 16, 32, 64, 128], offset=0.0)


def test_anchors_are_cached_by_image_size_and_the_oldest_sizes_are_evicted():
    generator = PyramidAnchorGenerator(sizes=[[32.0]], aspect_ratios=[[1.0]], strides=[8], offset=0.0)
    first = generator([torch.zeros(1, 1, 2, 3)])
    assert generator([torch.zeros(4, 1, 2, 3)])[0] is first[0]
    for width in range(4, 4 + CACHE_SIZE):
        generator([torch.zeros(1, 1, 2, width)])
    assert len(generator._cache) == CACHE_SIZE
    again = generator([torch.zeros(1, 1, 2, 3)])
    assert again[0] is not first[0] and torch.equal(again[0].tensor, first[0].tensor)


@pytest.mark.parametrize("height, width", [(800, 1088), (64, 96), (32, 32), (416, 352), (96, 1312)])
def test_torchvisions_anchors_are_equal_but_in_detectron2s_order(height, width):
    """In torchvision strides are image // map: 800 // 13 = 61 for P6, whose stride is 64."""
    from torchvision.models.detection.image_list import ImageList
    from torchvision.models.detection.retinanet import _default_anchorgen

    strides = [8, 16, 32, 64, 128]
    cfg = tiny_cfg("MODEL.ANCHOR_GENERATOR.NAME", "TorchvisionAnchors")
    generator = build_anchor_generator(cfg, [ShapeSpec(stride=s) for s in strides])
    features = [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in strides]
    got = torch.cat([boxes.tensor for boxes in generator(features)])
    (want,) = _default_anchorgen()(ImageList(torch.zeros(1, 3, height, width), [(height, width)]), features)
    # Ratios x sizes in torchvision, sizes x ratios here.
    assert torch.equal(got, want.view(-1, 3, 3, 4).transpose(1, 2).reshape(-1, 4))
    assert all(torch.equal(a.tensor, b.tensor) for a, b in zip(generator(features), generator(features), strict=True))


@pytest.mark.parametrize("ratios, scales", [([1.0], 3), ([0.5, 1.0, 2.0], 1), ([0.7, 1.3], 4)])
def test_torchvisions_anchors_follow_the_keys(ratios, scales):
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    options = {"NAME": "TorchvisionAnchors", "ASPECT_RATIOS": [ratios], "SCALES_PER_OCTAVE": scales, "SCALE": 3.0}
    cfg = tiny_cfg(*(x for key, value in options.items() for x in (f"MODEL.ANCHOR_GENERATOR.{key}", value)))
    generator = build_anchor_generator(cfg, [ShapeSpec(stride=s) for s in (8, 16)])
    sizes = tuple(tuple(int(3 * stride * 2 ** (j / scales)) for j in range(scales)) for stride in (8, 16))
    theirs = AnchorGenerator(sizes, (tuple(ratios),) * 2)
    for ours, want in zip(generator.cell_anchors, theirs.cell_anchors, strict=True):
        assert torch.equal(ours, want.view(len(ratios), scales, 4).transpose(0, 1).reshape(-1, 4))
    assert generator.anchor_grid == (scales, len(ratios))
