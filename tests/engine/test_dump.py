"""A step that diverged is written to a dump and can be run again."""

import json

import pytest
import torch
from support import make_inputs, tiny_cfg

from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from retina_plugin.cli.main import main
from retina_plugin.engine.dump import read_dump, replay, write_dump
from retina_plugin.engine.loop import PrecisionTrainer, TrainingDiverged


class Explode(torch.autograd.Function):
    """The identity with a gradient of NaN: the loss is finite, its gradients are not."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * float("nan")


def loop_with(change, folder, accumulate=1):
    cfg = tiny_cfg()
    model = build_model(cfg)
    change(model)
    inputs = make_inputs([(64, 96), (64, 64)], [[[10.0, 10.0, 60.0, 50.0]], []], [[0], []])
    for i, x in enumerate(inputs):
        x["file_name"] = f"image{i}.jpg"
    loop = PrecisionTrainer(model, [inputs] * 3, torch.optim.SGD(model.parameters(), lr=0.01), accumulate=accumulate)
    loop.iter = 4
    fixed = {"cfg": cfg, "model": model, "rate": 0.01, "iteration": 4, "normalizer": torch.tensor(100.0)}

    def explain(batch, losses, norm):
        return f"in {write_dump(folder, batch=batch, losses=losses, norm=norm, **fixed)}"

    loop.explain = explain
    return loop


def gradient_explodes(model):
    plain = model.head.forward

    def forward(features):
        logits, deltas = plain(features)
        return logits, [Explode.apply(x) for x in deltas]

    model.head.forward = forward


def bias_is_nan(model):
    model.head.bbox_pred.bias.data[0] = float("nan")


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("change, what", [(gradient_explodes, "the gradients"), (bias_is_nan, "the loss")])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_no_weight_changes_and_the_dump_describes_the_step(change, what, accumulate, tmp_path):
    loop = loop_with(change, tmp_path / "dump", accumulate)
    before = weights(loop.model)
    text = f"{what} became infinite or NaN in iteration 5(.|\n)*image0.jpg with 1 boxes(.|\n)*in .*dump"
    with EventStorage(), pytest.raises(TrainingDiverged, match=text):
        loop.run_step()
    assert all(torch.equal(before[name], p) or torch.isnan(p).any() for name, p in loop.model.named_parameters())
    facts = read_dump(tmp_path / "dump")
    assert facts["iteration"] == 4 and facts["learning_rate"] == 0.01 and len(facts["images"]) == 2 * accumulate
    assert facts["boxes"][:2] == [[[10.0, 10.0, 60.0, 50.0]], []] and facts["classes"][:2] == [[0], []]
    assert set(facts["again"]["levels"]) == {"p3", "p4", "p5", "p6", "p7"}
    assert facts["again"]["bad_gradients"] or facts["again"]["bad_modules"]
    assert json.loads((tmp_path / "dump/dump.json").read_text())["config"].startswith("NEEDS_IMPORT")


def test_the_dump_is_enough_to_run_the_step_again(tmp_path, capsys):
    loop = loop_with(bias_is_nan, tmp_path / "dump")
    with EventStorage(), pytest.raises(TrainingDiverged):
        loop.run_step()
    step = replay(tmp_path / "dump")
    assert step.bad_modules == ["head.bbox_pred"]
    assert main(["debug", str(tmp_path / "dump")]) == 0
    shown = capsys.readouterr().out
    texts = ("iteration 5, learning rate 0.01", "image0.jpg with 1 boxes", "head.bbox_pred")
    assert [text for text in texts if text not in shown] == []


def test_the_same_step_without_the_fault_is_finite(tmp_path):
    loop = loop_with(gradient_explodes, tmp_path / "dump")
    with EventStorage(), pytest.raises(TrainingDiverged):
        loop.run_step()
    step = replay(tmp_path / "dump")  # the fault was in the code, not in weights or images
    assert not step.bad_gradients and not step.bad_modules and "none" in step.report()
    facts = read_dump(tmp_path / "dump")
    assert sum(step.losses.values()) == pytest.approx(sum(facts["losses"].values()), rel=1e-4)
