"""The LazyConfigs build what the YAML configs build."""

import pytest
import torch
from support import BASE, ROOT, make_inputs

from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from detectron2.solver import LRMultiplier

from retina_plugin import load_config
from retina_plugin.engine.solver import build_lr_scheduler, build_optimizer

BOXES = [[[10.0, 12.0, 60.0, 70.0], [40.0, 30.0, 90.0, 62.0]], [[5.0, 5.0, 30.0, 60.0]]]


@pytest.mark.parametrize(
    "lazy, config, opts",
    [
        ("retinanet_R_50_FPN", BASE, ["MODEL.RETINANET.NUM_CLASSES", 80, "MODEL.WEIGHTS", "none"]),
        ("digits", ROOT / "configs/digits/quickstart.yaml", []),
    ],
)
@pytest.mark.slow
def test_both_build_equal_models(lazy, config, opts):
    cfg = load_config(config, ["MODEL.DEVICE", "cpu", *opts])
    theirs, ours = build_model(cfg), instantiate(LazyConfig.load(str(ROOT / f"configs/lazy/{lazy}.py")).model)
    assert shapes(ours) == shapes(theirs)
    assert trained_parameters(ours) == trained_parameters(theirs)
    ours.load_state_dict(theirs.state_dict())
    inputs = make_inputs([(96, 128), (80, 100)], BOXES, [[0, 2], [1]])
    for model in (ours, theirs):
        model.score_thresh_test = 0.0
    with torch.no_grad():
        found, wanted = (model.eval()(inputs) for model in (ours, theirs))
        for a, b in zip(found, wanted, strict=True):
            assert len(a["instances"])
            assert torch.equal(a["instances"].pred_boxes.tensor, b["instances"].pred_boxes.tensor)
            assert torch.equal(a["instances"].scores, b["instances"].scores)
    assert losses_of(ours, inputs) == losses_of(theirs, inputs)
    assert ours.pixel_mean.equal(theirs.pixel_mean)
    assert ours.input_format == theirs.input_format
    assert ours.autocast_dtype == theirs.autocast_dtype


def shapes(model):
    return {name: x.shape for name, x in model.state_dict().items()}


def trained_parameters(model):
    return [name for name, p in model.named_parameters() if p.requires_grad]


def losses_of(model, inputs):
    return {name: loss.item() for name, loss in model.train()(inputs).items()}


def groups_of(optimizer):
    return [(group["lr"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]


def test_the_digits_are_trained_with_the_same_data_optimizer_and_schedule(small_digits, tmp_path):
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", ["MODEL.DEVICE", "cpu"])
    lazy = LazyConfig.load(str(ROOT / "configs/lazy/digits.py"))
    model = instantiate(lazy.model)
    lazy.optimizer.params.model = model
    ours, theirs = instantiate(lazy.optimizer), build_optimizer(cfg, build_model(cfg))
    assert groups_of(ours) == groups_of(theirs)
    our_schedule = LRMultiplier(ours, multiplier=instantiate(lazy.lr_multiplier), max_iter=lazy.train.max_iter)
    their_schedule = build_lr_scheduler(cfg, theirs)
    for _ in range(1000):
        assert our_schedule.get_last_lr() == pytest.approx(their_schedule.get_last_lr())
        for stepped in (ours, theirs, our_schedule, their_schedule):
            stepped.step()
    lazy.dataloader.train.num_workers = lazy.dataloader.test.num_workers = 0
    lazy.dataloader.evaluator.output_dir = str(tmp_path)
    batch = next(iter(instantiate(lazy.dataloader.train)))
    loss = sum(model.train()(batch).values())
    assert len(batch) == 8 and loss.isfinite()
    evaluator = instantiate(lazy.dataloader.evaluator)
    with torch.no_grad():
        for inputs in instantiate(lazy.dataloader.test):
            evaluator.process(inputs, model.eval()(inputs))
    assert evaluator.evaluate()["bbox"]["AP"] >= 0
