"""Suppression with numpy is that of torchvision and of the plugin."""

import numpy as np
import pytest
import torch
from torchvision.ops import nms as torchvision_nms

from retina_plugin.export.suppression import nms, soft_nms
from retina_plugin.modeling.postprocess import soft_nms as torch_soft_nms


def test_nms_keeps_what_torchvisions_keeps():
    rng = np.random.default_rng(1)
    boxes = rng.uniform(0, 60, (300, 4))
    boxes[:, 2:] = boxes[:, :2] + rng.uniform(5, 40, (300, 2))
    scores, groups = np.sort(rng.random(300))[::-1].copy(), rng.integers(0, 3, 300)
    moved = torch.from_numpy(boxes + 1000.0 * groups[:, None])
    theirs = torchvision_nms(moved, torch.from_numpy(scores), 0.5)
    assert nms(boxes, groups, 0.5, 1000).tolist() == theirs.tolist() and len(nms(boxes, groups, 0.5, 7)) == 7
    assert nms(boxes[:0], groups[:0], 0.5, 5).tolist() == []


@pytest.mark.parametrize("kind", ["linear", "gaussian"])
@pytest.mark.parametrize("most", [10, 1000])
def test_soft_nms_lowers_the_scores_as_in_the_model(kind, most):
    rng = np.random.default_rng(2)
    boxes = rng.uniform(0, 60, (200, 4))
    boxes[:, 2:] = boxes[:, :2] + rng.uniform(5, 40, (200, 2))
    scores, groups = np.sort(rng.random(200))[::-1].copy(), rng.integers(0, 3, 200)
    keep, lowered = soft_nms(boxes, scores, groups, kind=kind, thresh=0.5, sigma=0.5, floor=0.2, most=most)
    tensors = (torch.from_numpy(x) for x in (boxes, scores, groups))
    want, want_scores = torch_soft_nms(*tensors, kind=kind, nms_thresh=0.5, sigma=0.5, score_thresh=0.2, most=most)
    assert keep.tolist() == want.tolist() and len(keep) > 5
    assert lowered == pytest.approx(want_scores.numpy(), abs=1e-9)


def test_soft_nms_of_nothing():
    none = np.zeros((0, 4))
    keep, scores = soft_nms(none, none[:, 0], none[:, 0], kind="gaussian", thresh=0.5, sigma=0.5, floor=0.1, most=5)
    assert len(keep) == len(scores) == 0
