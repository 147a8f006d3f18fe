"""Shapes, sharing, initialisation and normalisation of the head."""

import pytest
import torch
from torch import nn

from detectron2.layers import ShapeSpec

from retina_plugin.modeling.head import RetinaNetHead, SharedTowerHead

FEATURES = [torch.randn(2, 16, 8, 12), torch.randn(2, 16, 4, 6), torch.randn(2, 16, 2, 3)]


OPTIONS = {"num_classes": 5, "num_anchors": 9, "num_convs": 2, "channels": 0, "norm": "", "prior_prob": 0.01}


def levels(channels):
    return [ShapeSpec(channels=channels, stride=stride) for stride in (8, 16, 32)]


def head(**changes):
    return RetinaNetHead(**{"input_shape": levels(16), **OPTIONS, **changes})


def test_shapes_and_the_number_of_parameters():
    model = head()
    logits, deltas = model(FEATURES)
    assert [tuple(x.shape) for x in logits] == [(2, 45, 8, 12), (2, 45, 4, 6), (2, 45, 2, 3)]
    assert [tuple(x.shape) for x in deltas] == [(2, 36, 8, 12), (2, 36, 4, 6), (2, 36, 2, 3)]
    # 2 subnets of 2 convolutions 16 -> 16, then 16 -> 45 and 16 -> 36; each with bias.
    want = 4 * (16 * 16 * 9 + 16) + (16 * 45 * 9 + 45) + (16 * 36 * 9 + 36)
    assert sum(p.numel() for p in model.parameters()) == want


@pytest.mark.parametrize("prior", [0.01, 0.1])
def test_every_anchor_starts_with_the_prior_score(prior):
    logits, deltas = head(prior_prob=prior)([torch.zeros_like(x) for x in FEATURES])
    torch.testing.assert_close(logits[0].sigmoid(), torch.full_like(logits[0], prior))
    assert deltas[0].abs().max() == 0


def test_weights_are_shared_over_levels_and_separate_for_the_subnets():
    model = head().eval()
    same = [FEATURES[1]] * 3
    logits, _ = model(same)
    torch.testing.assert_close(logits[0], logits[2])
    assert not torch.equal(model.cls_subnet[0].weight, model.bbox_subnet[0].weight)


@pytest.mark.parametrize("norm", ["", "GN", "BN", "SyncBN"])
def test_every_norm_is_built_and_bn_has_statistics_per_level(norm):
    channels = 32 if norm == "GN" else 16  # GN has 32 groups
    model = head(norm=norm, input_shape=levels(channels))
    if norm == "SyncBN":  # cannot run without a process group
        assert sum(isinstance(m, nn.SyncBatchNorm) for m in model.modules()) == 2 * 2 * 3
        return
    features = [x.repeat(1, channels // 16, 1, 1) for x in FEATURES]
    model(features)
    model.eval()(features)
    if norm == "BN":
        statistics = [m.running_mean for m in model.cls_subnet[1]]
        assert len(statistics) == 3 and not torch.equal(statistics[0], statistics[1])


def test_levels_with_different_channels_are_refused():
    shapes = [ShapeSpec(channels=16, stride=8), ShapeSpec(channels=32, stride=16)]
    with pytest.raises(ValueError, match="same number of channels"):
        head(input_shape=shapes)


def test_the_head_can_have_its_own_number_of_channels():
    model = head(channels=24)
    assert model.cls_subnet[0].weight.shape == (24, 16, 3, 3) and model.cls_subnet[2].weight.shape == (24, 24, 3, 3)
    logits, deltas = model(FEATURES)
    assert logits[0].shape[1] == 45 and deltas[0].shape[1] == 36
    assert head(channels=24, num_convs=0).cls_score.weight.shape[1] == 16


def test_a_shared_tower_halves_the_convolutions():
    model = SharedTowerHead(**{"input_shape": levels(16), **OPTIONS, "norm": "BN"})
    assert not hasattr(model, "cls_subnet") and len(model.subnet[1]) == 3
    want, (logits, deltas) = head()(FEATURES), model(FEATURES)
    assert [x.shape for x in [*logits, *deltas]] == [x.shape for x in [*want[0], *want[1]]]
