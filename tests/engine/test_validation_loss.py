"""Losses on data that the model is not trained on."""

import pytest
import torch
from support import make_inputs, tiny_cfg

from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage, get_event_storage

from retina_plugin.engine.validation_loss import validation_losses

INPUTS = make_inputs(
    [(64, 96), (64, 64), (96, 64)], [[[10, 10, 60, 50]], [], [[5, 5, 40, 60], [20, 8, 60, 40]]], [[0], [], [1, 2]]
)


@pytest.mark.parametrize("loss", ["focal", "ohem", "varifocal"])
def test_it_is_the_training_loss_and_changes_nothing(loss):
    options = ["MODEL.RETINANET.CLS_LOSS", loss, "MODEL.RESNETS.NORM", "GN", "MODEL.RESNETS.STEM_OUT_CHANNELS", 64]
    model = build_model(tiny_cfg(*options)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with EventStorage() as storage:
        got = validation_losses(model, [INPUTS])
        assert storage is get_event_storage() and not storage.latest()
    assert model.training and all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    # As in training (no layer here behaves differently), except that sums are divided by this batch's foreground.
    with torch.no_grad(), EventStorage() as storage:
        want = model(INPUTS)
        foreground = storage.latest()["num_pos_anchors"][0] * len(INPUTS)
    divisor = float(model.loss_normalizer)
    assert divisor == pytest.approx(90 + 0.1 * foreground)
    means = {"loss_cls"} if loss == "ohem" else set()
    factor = divisor / foreground
    want = {name: float(value) * (1.0 if name in means else factor) for name, value in want.items()}
    assert {name: got[name] for name in want} == pytest.approx(want, rel=1e-4)
    assert got["total_loss"] == pytest.approx(sum(want.values()), rel=1e-4)


def test_a_model_with_overridden_losses_is_measured_by_them():
    model = build_model(tiny_cfg())
    plain = validation_losses(model, [INPUTS])
    losses = model.losses
    model.losses = lambda predictions, labels: {name: 3 * loss for name, loss in losses(predictions, labels).items()}
    assert validation_losses(model, [INPUTS])["loss_cls"] == pytest.approx(3 * plain["loss_cls"], rel=1e-5)


def test_a_dataset_without_objects_has_a_finite_loss():
    losses = validation_losses(build_model(tiny_cfg()), [make_inputs([(64, 96)], [[]], [[]])])
    assert losses["loss_box_reg"] == 0 and 0 < losses["loss_cls"] < 1000


def test_the_size_of_batches_does_not_matter():
    model = build_model(tiny_cfg()).eval()
    boxes = [[[10, 10, 60, 50]], [[2, 2, 90, 60]], [[5, 5, 40, 60], [20, 8, 60, 40]]]
    inputs = make_inputs([(64, 96)] * 3, boxes, [[0], [1], [1, 2]])
    whole, parts = validation_losses(model, [inputs]), validation_losses(model, [[x] for x in inputs])
    assert whole == pytest.approx(parts, rel=1e-3)
