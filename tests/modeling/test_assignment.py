"""Matching computed by hand, and compared with a plain implementation and with Detectron2."""

import pytest
import torch

from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou

from retina_plugin.modeling import assignment
from retina_plugin.modeling.anchors import PyramidAnchorGenerator, anchor_sizes
from retina_plugin.modeling.assignment import ChunkedOverlaps, MaxIoUAssigner, ignore_inside, overlaps

K = 5


def assigner(low_quality=False):
    batched = MaxIoUAssigner(thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=low_quality)

    def one_image(anchors, gt_boxes, gt_classes, num_classes):
        labels, matched = batched([anchors], [gt_boxes], [gt_classes], num_classes)
        return labels[0], matched[0]

    return one_image


def pyramid_anchors(height, width):
    """Return the anchors of P3-P7 in the order of the detector."""
    sizes = anchor_sizes([8, 16, 32, 64, 128], scale=4, scales_per_octave=3)
    generator = PyramidAnchorGenerator(
        sizes=sizes, aspect_ratios=[[0.5, 1.0, 2.0]], strides=[8, 16, 32, 64, 128], offset=0.0
    )
    maps = [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in (8, 16, 32, 64, 128)]
    return Boxes.cat(generator(maps)).tensor


def random_boxes(n, extent):
    corner = torch.rand(n, 2) * extent
    return torch.cat([corner, corner + 5 + torch.rand(n, 2) * 0.5 * extent], dim=1)


def test_thresholds_worked_by_hand():
    # The ground truth is 10 x 10 = 100. An anchor inside it, 10 wide and h <= 10 high, has IoU h / 10.
    anchors = torch.tensor(
        [[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.5], [0, 0, 10, 4], [0, 0, 10, 3.9], [50, 50, 60, 60]]
    )
    labels, matched = assigner()(anchors, torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([2]), K)
    # 1.0 and 0.5 foreground, 0.45 and 0.4 between the thresholds, 0.39 and 0 background
    assert labels.tolist() == [2, 2, -1, -1, K, K]
    assert matched[:2].tolist() == [0, 0]


def test_low_quality_matches_give_every_box_an_anchor():
    anchors = torch.tensor([[0.0, 0, 10, 3], [0, 0, 10, 2]])
    gt, classes = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([4])
    assert assigner(low_quality=False)(anchors, gt, classes, K)[0].tolist() == [K, K]
    assert assigner(low_quality=True)(anchors, gt, classes, K)[0].tolist() == [4, K]


def test_without_ground_truth_everything_is_background():
    labels, matched = assigner(True)(torch.rand(7, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), K)
    assert labels.tolist() == [K] * 7 and matched.shape == (7,)


@pytest.mark.parametrize("low_quality", [False, True])
def test_random_boxes_are_matched_as_by_a_plain_implementation(low_quality):
    anchors, gt, classes = random_boxes(400, 80), random_boxes(12, 80), torch.randint(0, K, (12,))
    labels, matched = assigner(low_quality)(anchors, gt, classes, K)
    iou = pairwise_iou(Boxes(gt), Boxes(anchors))
    for r in range(400):
        best = iou[:, r].max().item()
        rescued = low_quality and any(iou[m, r] == iou[m].max() for m in range(12))
        if best >= 0.5 or rescued:
            assert labels[r] == classes[iou[:, r].argmax()] and matched[r] == iou[:, r].argmax()
        else:
            assert labels[r] == (-1 if best >= 0.4 else K)


def test_the_order_of_the_boxes_does_not_matter():
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 9]])
    gt, classes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 31]]), torch.tensor([1, 3])
    a, _ = assigner(True)(anchors, gt, classes, K)
    b, _ = assigner(True)(anchors, gt.flip(0), classes.flip(0), K)
    assert a.tolist() == b.tolist() == [1, 3, 1]


@pytest.mark.parametrize("thresholds, labels", [([0.5, 0.4], [0, -1, 1]), ([0.4, 0.5], [0, 1])])
def test_inconsistent_thresholds_and_labels_are_refused(thresholds, labels):
    with pytest.raises(ValueError, match="IOU_THRESHOLDS"):
        MaxIoUAssigner(thresholds=thresholds, labels=labels, allow_low_quality_matches=True)


def test_overlaps_are_bit_identical_to_detectron2s():
    a, b = random_boxes(20, 100), random_boxes(300, 100)
    assert torch.equal(overlaps(a.T, b.T), pairwise_iou(Boxes(a), Boxes(b)))


@pytest.mark.parametrize("chunk", [64, 1000, 2**20])
@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize("num_boxes", [1, 7, 300])
def test_the_result_equals_detectron2s_matcher_for_any_chunk_size(monkeypatch, chunk, low_quality, num_boxes):
    monkeypatch.setattr(assignment, "CHUNK_CPU", chunk)
    anchors, gt = pyramid_anchors(240, 320), random_boxes(num_boxes, 200).round()
    gt[-1] = gt[0]  # a duplicate box: the first one is matched
    classes = torch.randint(0, K, (num_boxes,))
    want_idxs, want = Matcher([0.4, 0.5], [0, -1, 1], low_quality)(pairwise_iou(Boxes(gt), Boxes(anchors)))
    labels, matched = assigner(low_quality)(anchors, gt, classes, K)
    assert torch.equal(labels, torch.where(want == 1, classes[want_idxs], torch.where(want == 0, K, -1)))
    foreground = (labels >= 0) & (labels < K)
    assert foreground.any() or (num_boxes == 1 and not low_quality)
    assert torch.equal(matched[foreground], want_idxs[foreground])


def test_the_gpu_path_gives_the_same_result(monkeypatch):
    # Without `choose`, no value is read on the host; small chunks simulate little memory.
    monkeypatch.setattr(assignment, "CHUNK_GPU", 40_000)
    anchors, gt = pyramid_anchors(240, 320), random_boxes(40, 200)
    find = ChunkedOverlaps(anchors)
    want = find(gt, find_best=True)
    find.choose = False
    assert len(find._chunks(40)) > 5
    iou, box, is_best = find(gt, find_best=True)
    assert torch.equal(iou, want[0]) and torch.equal(is_best, want[2])
    assert torch.equal(box[iou > 0], want[1][iou > 0])


def test_a_batch_equals_its_images_with_indices_into_all_boxes():
    anchors, gt = pyramid_anchors(240, 320), [random_boxes(3, 200), torch.zeros(0, 4), random_boxes(5, 200)]
    classes = [torch.randint(0, K, (len(boxes),)) for boxes in gt]
    batched = MaxIoUAssigner(thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True)
    labels, matched = batched([anchors], gt, classes, K)
    for i, offset in enumerate((0, 3, 3)):
        alone = assigner(True)(anchors, gt[i], classes[i], K)
        assert torch.equal(labels[i], alone[0])
        foreground = (labels[i] >= 0) & (labels[i] < K)
        assert torch.equal(matched[i][foreground], alone[1][foreground] + offset)


def test_a_box_that_overlaps_no_anchor_makes_none_foreground():
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    labels, _ = assigner(True)(anchors, torch.tensor([[50.0, 50, 60, 60]]), torch.tensor([1]), K)
    assert labels.tolist() == [K, K]


def test_background_in_a_crowd_is_ignored_and_foreground_is_not():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 10], [0, 0, 21, 10], [2, 2, 6, 6], [30, 30, 40, 40]])
    labels = torch.tensor([3, 3, 3, 1, 3])
    ignore_inside(labels, anchors, torch.tensor([[0.0, 0, 10.5, 10]]), 3)
    # 100 %, 52.5 % and exactly 50 % of the area inside; a foreground anchor; an anchor outside.
    assert labels.tolist() == [-1, -1, 3, 1, 3]
    ignore_inside(labels, anchors, torch.zeros(0, 4), 3)
    assert labels.tolist() == [-1, -1, 3, 1, 3]
