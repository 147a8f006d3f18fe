"""Losses of each level and each class."""

import pytest
import torch
from support import make_inputs, tiny_cfg

from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

BATCH = (
    [(64, 96), (96, 64)],
    [[[4.0, 4.0, 40.0, 40.0], [20.0, 10.0, 60.0, 60.0]], [[2.0, 2.0, 30.0, 60.0]]],
    [[1, 0], [2]],
)


def logged(*opts):
    """Return a model, the losses of its second step, and the logged values."""
    model = build_model(tiny_cfg("SOLVER.DETAILS_PERIOD", 2, *opts)).train()
    with EventStorage(start_iter=1) as storage:  # the second iteration
        losses = {name: float(value) for name, value in model(make_inputs(*BATCH)).items()}
        return model, losses, {name: value for name, (value, _) in storage.latest().items()}


@pytest.mark.parametrize("loss", ["focal", "cross_entropy", "balanced_cross_entropy", "focal_star"])
def test_the_parts_of_a_loss_of_p_t_alone_add_up(loss):
    model, losses, found = logged("MODEL.RETINANET.CLS_LOSS", loss)
    levels = [found[f"loss_cls/{name}"] for name in model.head_in_features]
    classes = [found[f"loss_cls/class {k}"] for k in range(3)]
    assert sum(levels) == pytest.approx(losses["loss_cls"], rel=1e-5) == pytest.approx(sum(classes), rel=1e-5)
    box_levels = [found[f"loss_box_reg/{name}"] for name in model.head_in_features]
    assert sum(box_levels) == pytest.approx(losses["loss_box_reg"], rel=1e-5)


@pytest.mark.parametrize("loss", ["ohem", "ohem_1to3", "ssd_1to3", "ghm", "quality_focal", "varifocal"])
def test_every_other_loss_has_finite_parts(loss):
    _, _, found = logged("MODEL.RETINANET.CLS_LOSS", loss)
    assert len([name for name in found if name.startswith("loss_cls/")]) == 5 + 3
    assert all(torch.isfinite(torch.tensor(value)) for value in found.values())


def test_nothing_is_logged_in_between_and_training_is_unchanged():
    plain = build_model(tiny_cfg()).train()
    model = build_model(tiny_cfg("SOLVER.DETAILS_PERIOD", 2)).train()
    model.load_state_dict(plain.state_dict())
    results = []
    for one in (plain, model):
        with EventStorage(start_iter=1) as storage:
            losses = one(make_inputs(*BATCH))
            sum(losses.values()).backward()
            results.append((losses, [p.grad for p in one.parameters()]))
    assert all(torch.equal(results[0][0][name], results[1][0][name]) for name in results[0][0])
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert torch.equal(a, b) if a is not None else b is None
    with EventStorage(start_iter=2) as storage:  # the third iteration
        model(make_inputs(*BATCH))
        assert not any("/" in name for name in storage.latest())


def test_losses_without_objects_are_logged_too():
    model = build_model(tiny_cfg("SOLVER.DETAILS_PERIOD", 1)).train()
    with EventStorage() as storage:
        model(make_inputs([(64, 64)], [[]], [[]]))
        assert storage.latest()["loss_box_reg/p3"][0] == 0 and storage.latest()["loss_cls/class 0"][0] > 0
