"""The training step, and its errors."""

import pytest
import torch
from support import make_inputs, tiny_cfg

from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from retina_plugin.engine.loop import PrecisionTrainer

BOXES = [[[10.0, 10.0, 60.0, 50.0]], []]


def trainer(precision="fp32", lr=0.01):
    model = build_model(tiny_cfg("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", precision))
    inputs = make_inputs([(64, 96), (64, 64)], BOXES, [[0], []])
    for i, x in enumerate(inputs):
        x["file_name"] = f"image{i}.jpg"
    result = PrecisionTrainer(model, [inputs] * 3, torch.optim.SGD(model.parameters(), lr=lr))
    result.iter = 0
    return result


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_changes_the_weights_and_reports_finite_losses(precision):
    loop = trainer(precision)
    before = loop.model.head.cls_score.weight.detach().clone()
    with EventStorage() as storage:
        loop.run_step()
    assert not torch.equal(before, loop.model.head.cls_score.weight)
    assert storage.latest()["total_loss"][0] > 0 and loop.model.head.cls_score.weight.dtype == torch.float32


def test_a_non_finite_loss_names_the_batch_and_leaves_the_weights():
    loop = trainer()
    loop.model.head.cls_score.bias.data[0] = float("nan")
    before = loop.model.head.bbox_pred.weight.detach().clone()
    text = r"learning rate 0.01(.|\n)*image0.jpg with 1 boxes(.|\n)*image1.jpg with 0 boxes"
    with EventStorage(), pytest.raises(FloatingPointError, match=text):
        loop.run_step()
    assert torch.equal(before, loop.model.head.bbox_pred.weight)


def test_optimizer_and_loss_scale_are_restored():
    loop, other = trainer(), trainer()
    for x in (loop, other):  # momentum, so that the optimizer has a state
        x.optimizer.param_groups[0]["momentum"] = 0.9
    with EventStorage():
        loop.run_step()
    state = loop.state_dict()
    state["grad_scaler"] = {"scale": 8.0, "growth_factor": 2.0, "backoff_factor": 0.5}
    state["grad_scaler"] |= {"growth_interval": 5, "_growth_tracker": 3}
    other.grad_scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    other.load_state_dict(state)
    assert other.grad_scaler.get_scale() == 8.0
    momentum, same = (x.optimizer.state[next(x.model.parameters())]["momentum_buffer"] for x in (loop, other))
    assert torch.equal(momentum, same)


def test_accumulated_gradients_equal_those_of_the_whole_batch():
    """Without a moving normaliser and without BatchNorm, the mean over parts is the mean over the batch."""
    torch.manual_seed(0)
    data = [torch.randn(4, 3) for _ in range(2)]

    class Model(torch.nn.Linear):
        device = torch.device("cpu")

        def forward(self, batch):
            return {"loss": super().forward(torch.stack(batch)).square().mean()}

    gradients = []
    for batches, accumulate in (([list(torch.cat(data))], 1), ([list(x) for x in data], 2)):
        torch.manual_seed(1)
        model = Model(3, 2)
        loop = PrecisionTrainer(model, batches, torch.optim.SGD(model.parameters(), lr=0.0), accumulate=accumulate)
        loop.iter = 0
        with EventStorage() as storage:
            loop.run_step()
        gradients.append((model.weight.grad.clone(), storage.latest()["total_loss"][0]))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    assert gradients[0][1] == pytest.approx(gradients[1][1])
