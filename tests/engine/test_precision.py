"""Which arithmetic, and a loop that survives and explains."""

import pytest
import torch
from conftest import make_inputs, tiny_cfg
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from retina_plugin.engine import precision
from retina_plugin.engine.precision import PrecisionTrainer, autocast, resolve_precision

CPU = torch.device("cpu")
BOXES = [[[10.0, 10.0, 60.0, 50.0]], []]


@pytest.mark.parametrize("fast, want", [(True, torch.bfloat16), (False, None)])
def test_auto_takes_bf16_on_a_cpu_only_where_it_is_fast(monkeypatch, fast, want):
    monkeypatch.setattr(precision, "fast_bf16", lambda device: fast)
    assert resolve_precision(tiny_cfg(), CPU) == want


@pytest.mark.parametrize("fast, want", [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_on_a_gpu(monkeypatch, fast, want):
    monkeypatch.setattr(precision, "fast_bf16", lambda device: fast)
    assert resolve_precision(tiny_cfg(), torch.device("cuda")) == want


def test_named_precisions_and_none():
    assert resolve_precision(tiny_cfg("SOLVER.AMP.PRECISION", "bf16"), CPU) == torch.bfloat16
    assert resolve_precision(tiny_cfg("SOLVER.AMP.PRECISION", "fp32"), CPU) is None
    assert resolve_precision(tiny_cfg("SOLVER.AMP.ENABLED", False, "SOLVER.AMP.PRECISION", "bf16"), CPU) is None
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        resolve_precision(tiny_cfg("SOLVER.AMP.PRECISION", "fp16"), CPU)


def test_autocast_does_nothing_without_a_type():
    with autocast(CPU, None):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with autocast(CPU, torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def trainer(dtype=None, lr=0.01):
    model = build_model(tiny_cfg())
    inputs = make_inputs([(64, 96), (64, 64)], BOXES, [[0], []])
    for i, x in enumerate(inputs):
        x["file_name"] = f"image{i}.jpg"
    result = PrecisionTrainer(model, [inputs] * 3, torch.optim.SGD(model.parameters(), lr=lr), dtype=dtype)
    result.iter = 0
    return result


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_step_changes_the_weights_and_reports_finite_losses(dtype):
    loop = trainer(dtype)
    before = loop.model.head.cls_score.weight.detach().clone()
    with EventStorage() as storage:
        loop.run_step()
    assert not torch.equal(before, loop.model.head.cls_score.weight)
    assert storage.latest()["total_loss"][0] > 0 and loop.model.head.cls_score.weight.dtype == torch.float32


def test_a_loss_that_is_not_finite_names_the_batch_and_leaves_the_weights():
    loop = trainer()
    loop.model.head.cls_score.bias.data[0] = float("nan")
    before = loop.model.head.bbox_pred.weight.detach().clone()
    with EventStorage(), pytest.raises(FloatingPointError, match=r"learning rate 0.01(.|\n)*image0.jpg with 1 boxes(.|\n)*image1.jpg with 0 boxes"):
        loop.run_step()
    assert torch.equal(before, loop.model.head.bbox_pred.weight)


def test_state_round_trip():
    loop = trainer()
    with EventStorage():
        loop.run_step()
    state = loop.state_dict()
    other = trainer()
    other.load_state_dict(state)
    assert "optimizer" in state and "grad_scaler" in state
