"""Averages of the weights."""

import pytest
import torch
from support import tiny_cfg

from retina_plugin.engine.ema import LastWeights, WeightAverage


def model_with(value):
    model = torch.nn.BatchNorm1d(1)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def test_the_average_by_hand():
    model = model_with(1.0)
    average = WeightAverage(model, decay=0.5)
    average.before_train()
    for value in (2.0, 4.0):
        with torch.no_grad():
            model.weight.fill_(value)
            model.num_batches_tracked += 1
        average.after_step()
    # Step 1 keeps min(0.5, 2 / 11) of the old average, step 2 min(0.5, 3 / 12):
    # 1 * 2/11 + 2 * 9/11 = 20/11, then 20/11 * 1/4 + 4 * 3/4.
    assert average.average["weight"].item() == pytest.approx(20 / 11 / 4 + 3)
    assert average.average["num_batches_tracked"] == 2
    with average.applied():
        assert model.weight.item() == pytest.approx(20 / 11 / 4 + 3)
        with average.applied():
            pass
        assert model.weight.item() != 4.0
    assert model.weight.item() == 4.0


def test_a_checkpoint_restores_the_average_and_the_trained_weights():
    model = model_with(1.0)
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
    average.after_step()
    with average.applied():
        saved, state = {name: tensor.clone() for name, tensor in model.state_dict().items()}, average.state_dict()
    other = model_with(7.0)
    again = WeightAverage(other, decay=0.9)
    other.load_state_dict(saved)
    again.load_state_dict(state)
    again.before_train()
    assert other.weight.item() == 3.0 and again.steps == 1
    assert torch.equal(again.average["weight"], average.average["weight"])


def test_the_last_weights_are_averaged_equally():
    """Of six iterations the last four; before these the average is the current weights."""
    model = torch.nn.Linear(1, 1, bias=False)
    hook = LastWeights(model, iterations=4, max_iter=6)
    hook.before_train()
    want = {1: 1.0, 2: 2.0, 3: 3.0, 4: 3.5, 5: 4.0, 6: 4.5}  # 3; (3 + 4) / 2; (3 + 4 + 5) / 3; (3 + 4 + 5 + 6) / 4
    for step, mean in want.items():
        torch.nn.init.constant_(model.weight, float(step))
        hook.after_step()
        assert hook.average["weight"].item() == pytest.approx(mean)
    with hook.applied():
        assert model.weight.item() == pytest.approx(4.5)
    assert model.weight.item() == 6.0


def test_two_averages_at_once_are_refused():
    with pytest.raises(ValueError, match="two averages of the weights"):
        tiny_cfg("SOLVER.EMA_DECAY", 0.9, "SOLVER.SWA_ITERS", 10)
