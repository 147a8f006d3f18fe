"""Box losses computed by hand, and without foreground."""

import math

import pytest
import torch

from detectron2.modeling.box_regression import Box2BoxTransform

from retina_plugin.modeling.losses import BOX_LOSS_REGISTRY

TRANSFORM = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))
ANCHORS = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
GT = torch.tensor([[2.0, 0.0, 22.0, 10.0]])
# Centres (5, 5) and (12, 5), widths 10 and 20: deltas (0.7, 0, log 2, 0).


def loss(name, beta=0.0):
    return BOX_LOSS_REGISTRY.build(name, transform=TRANSFORM, beta=beta)


def test_l1_and_smooth_l1_worked_by_hand():
    zero = torch.zeros(1, 4)
    assert loss("smooth_l1")(zero, ANCHORS, GT).item() == pytest.approx(0.7 + math.log(2))
    # β = 1, both below it: 0.5 · 0.7² + 0.5 · log(2)² = 0.245 + 0.24023
    assert loss("smooth_l1", beta=1.0)(zero, ANCHORS, GT).item() == pytest.approx(0.245 + 0.5 * math.log(2) ** 2)


def test_giou_worked_by_hand():
    # The anchor itself against the box: intersection 8 x 10 = 80, union 100 + 200 - 80 = 220,
    # hull 22 x 10 = 220, so GIoU = 80 / 220 and the loss 0.63636.
    assert loss("giou")(torch.zeros(1, 4), ANCHORS, GT).item() == pytest.approx(1 - 80 / 220, abs=1e-5)


@pytest.mark.parametrize("name", [name for name, _ in BOX_LOSS_REGISTRY])
def test_perfect_deltas_and_no_foreground_cost_nothing_but_have_a_gradient(name):
    perfect = TRANSFORM.get_deltas(ANCHORS, GT)
    assert loss(name)(perfect, ANCHORS, GT).item() == pytest.approx(0, abs=1e-5)
    nothing = torch.zeros(0, 4, requires_grad=True)
    value = loss(name)(nothing, torch.zeros(0, 4), torch.zeros(0, 4))
    assert value == 0
    value.backward()
    assert nothing.grad is not None


@pytest.mark.parametrize("name", [name for name, _ in BOX_LOSS_REGISTRY])
def test_half_precision_deltas_yield_a_float32_loss(name):
    deltas = torch.full((1, 4), 0.1, dtype=torch.bfloat16)
    assert loss(name)(deltas, ANCHORS, GT).dtype == torch.float32
