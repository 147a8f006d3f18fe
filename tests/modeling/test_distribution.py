"""Boxes as distributions: decoding, the loss by hand, gradients, and equality of training and evaluation."""

import math

import pytest
import torch
from support import BASE, TINY, make_inputs
from torch import nn

from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.utils.events import EventStorage

from retina_plugin import load_config
from retina_plugin.modeling.distribution import (
    BINS,
    DFL_WEIGHT,
    REACH,
    DistributionLoss,
    DistributionTransform,
    distribution_focal_loss,
    expected_deltas,
    true_distances,
)

WEIGHTS = (1.0, 1.0, 1.0, 1.0)
KEYS = ["MODEL.RETINANET.HEAD_NAME", "distribution", "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "distribution"]


def logits_at(distances):
    """Return logits (P, 4 B) whose expectation is the distances (P, 4): two neighbouring bins with the right shares."""
    place = distances * (BINS - 1) / REACH
    below = place.floor().clamp(max=BINS - 2).long()
    shares = torch.zeros(*distances.shape, BINS)
    shares.scatter_(-1, below[..., None], (1 - (place - below))[..., None])
    shares.scatter_(-1, below[..., None] + 1, (place - below)[..., None])
    return shares.clamp(min=1e-30).log().flatten(1)


def boxes(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 100
    return torch.cat([corner, corner + 20 + torch.rand(count, 2, generator=generator) * 60], dim=1)


@pytest.mark.parametrize("weights", [WEIGHTS, (10.0, 10.0, 5.0, 5.0)])
def test_decoding_inverts_the_distances(weights):
    anchors = boxes(50)
    wanted = anchors + torch.randn(50, 4, generator=torch.Generator().manual_seed(1)) * 4
    logits = logits_at(true_distances(anchors, wanted))
    torch.testing.assert_close(DistributionTransform(weights).apply_deltas(logits, anchors), wanted, atol=1e-2, rtol=0)
    # The deltas are those that Detectron2 computes, so whatever decodes deltas decodes these.
    deltas = Box2BoxTransform(weights).get_deltas(anchors, wanted)
    torch.testing.assert_close(expected_deltas(logits, weights), deltas, atol=1e-2, rtol=1e-3)


def test_deltas_are_decoded_as_detectron2_does():
    anchors, deltas = boxes(5), torch.randn(5, 4) * 0.1
    want = Box2BoxTransform(WEIGHTS).apply_deltas(deltas, anchors)
    assert torch.equal(DistributionTransform(WEIGHTS).apply_deltas(deltas, anchors), want)


def test_the_loss_by_hand():
    # The true distance lies a quarter of the way from bin 4 to bin 5: 3/4 of the cross entropy of bin 4, 1/4 of 5.
    step = REACH / (BINS - 1)
    logits = torch.zeros(1, 4 * BINS)
    logits.view(4, BINS)[:, 4] = math.log(6)
    logits.view(4, BINS)[:, 5] = math.log(3)
    total = 6 + 3 + (BINS - 2)
    want = -(0.75 * math.log(6 / total) + 0.25 * math.log(3 / total))
    found = distribution_focal_loss(logits, torch.full((1, 4), 4.25 * step))
    assert found.item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("distance", [0.0, REACH])
def test_the_ends_of_the_range(distance):
    logits = logits_at(torch.full((2, 4), distance))
    assert distribution_focal_loss(logits, torch.full((2, 4), distance)).item() == pytest.approx(0, abs=1e-5)


def test_distances_are_clamped_to_the_range():
    anchor = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    # The box ends 2 px left of the centre, at 5 px: its right side is at -0.2 sides. It begins 100 px left of it.
    far = torch.tensor([[-95.0, 0.0, 3.0, 20.0]])
    assert true_distances(anchor, far).tolist() == [[REACH, 0.5, 0.0, 0.5]]


def test_both_parts_count_and_no_foreground_is_zero():
    anchors, wanted = boxes(3), boxes(3, seed=2)
    logits = torch.randn(3, 4 * BINS, requires_grad=True)
    loss = DistributionLoss(transform=DistributionTransform(WEIGHTS))
    deltas = expected_deltas(logits, WEIGHTS)
    both, giou = loss(logits, anchors, wanted), loss(deltas, anchors, wanted)
    dfl = distribution_focal_loss(logits, true_distances(anchors, wanted))
    assert both.item() == pytest.approx(giou.item() + DFL_WEIGHT * dfl.item(), rel=1e-5)
    empty = loss(logits[:0], anchors[:0], wanted[:0])
    assert empty.item() == 0 and empty.requires_grad


def test_the_first_prediction_is_the_anchor():
    model = build_model(load_config(BASE, [*TINY, *KEYS])).eval()
    nn.init.zeros_(model.head.bbox_pred.weight)
    shapes = [(2, model.backbone.output_shape()[name].channels, 4, 4) for name in model.head_in_features]
    _, deltas = model.head([torch.randn(shape) for shape in shapes])
    assert deltas[0].shape[1] == 4 * model.anchor_generator.num_anchors[0]
    assert deltas[0].abs().max() < 0.1, "the anchor, to a tenth of its side"


def test_training_and_evaluation_predict_the_same_boxes():
    torch.manual_seed(0)
    model = build_model(load_config(BASE, [*TINY, *KEYS]))
    nn.init.normal_(model.head.bbox_pred.weight, std=0.1)
    inputs = make_inputs([(64, 96), (64, 64)], [[[10.0, 10.0, 60.0, 50.0]], []], [[1], []])
    model.eval()
    with torch.no_grad():
        images = model.preprocess_image(inputs)
        tested = model.predict(images)
        model.head.train()
        for module in model.head.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        trained = model.predict(images)
    assert trained.deltas[0].shape[-1] == 4 * BINS and tested.deltas[0].shape[-1] == 4
    for raw, deltas in zip(trained.deltas, tested.deltas, strict=True):
        torch.testing.assert_close(expected_deltas(raw.float(), WEIGHTS), deltas, atol=1e-4, rtol=1e-4)


def test_every_parameter_of_the_head_learns_and_the_validation_loss_is_finite():
    model = build_model(load_config(BASE, [*TINY, *KEYS]))
    inputs = make_inputs([(64, 96), (64, 64)], [[[10.0, 10.0, 60.0, 50.0]], []], [[1], []])
    with EventStorage():
        sum(model.train()(inputs).values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.head.parameters())
    model.eval()
    with torch.no_grad():
        predictions = model.predict(model.preprocess_image(inputs))
        losses = model.losses(predictions, model.label_inputs(predictions.anchors, inputs))
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("loss", ["smooth_l1", "giou", "ciou"])
def test_other_losses_compare_the_expected_box(loss):
    model = build_model(load_config(BASE, [*TINY, *KEYS[:2], "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", loss])).train()
    raw = torch.randn(3, 4 * BINS)
    anchors, wanted = boxes(3), boxes(3, seed=2)
    found = model.box_loss(raw, anchors, wanted)
    assert found.item() == pytest.approx(
        model.box_loss(expected_deltas(raw, WEIGHTS), anchors, wanted).item(), rel=1e-5
    )


def test_with_another_head_it_is_giou():
    losses = [
        build_model(load_config(BASE, [*TINY, "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", name])).box_loss
        for name in ("distribution", "giou")
    ]
    deltas, anchors, wanted = torch.randn(3, 4) * 0.1, boxes(3), boxes(3, seed=2)
    assert torch.equal(*(loss(deltas, anchors, wanted) for loss in losses))
