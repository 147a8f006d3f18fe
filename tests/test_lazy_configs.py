"""The LazyConfigs build what the YAML configs build."""

import pytest
import torch
from conftest import BASE, ROOT, make_inputs

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
def test_both_give_equal_models(lazy, config, opts):
    cfg = load_config(config, ["MODEL.DEVICE", "cpu", *opts])
    theirs, ours = build_model(cfg), instantiate(LazyConfig.load(str(ROOT / f"configs/lazy/{lazy}.py")).model)
    assert {name: x.shape for name, x in ours.state_dict().items()} == {
        name: x.shape for name, x in theirs.state_dict().items()
    }
    assert [name for name, p in ours.named_parameters() if p.requires_grad] == [
        name for name, p in theirs.named_parameters() if p.requires_grad
    ]
    ours.load_state_dict(theirs.state_dict())
    inputs = make_inputs([(96, 128), (80, 100)], BOXES, [[0, 2], [1]])
    for model in (ours, theirs):
        model.score_thresh_test = 0.0
    with torch.no_grad():
        found, wanted = (model.eval()(inputs) for model in (ours, theirs))
        for a, b in zip(found, wanted, strict=True):
            assert (
                len(a["instances"])
                and torch.equal(a["instances"].pred_boxes.tensor, b["instances"].pred_boxes.tensor)
                and torch.equal(a["instances"].scores, b["instances"].scores)
            )
    assert {name: loss.item() for name, loss in ours.train()(inputs).items()} == {
        name: loss.item() for name, loss in theirs.train()(inputs).items()
    }
    assert (
        ours.pixel_mean.equal(theirs.pixel_mean)
        and ours.input_format == theirs.input_format
        and ours.autocast_dtype == theirs.autocast_dtype
    )


def test_the_digits_are_trained_with_the_same_data_optimizer_and_schedule(small_digits, tmp_path):
    cfg, lazy = (
        load_config(ROOT / "configs/digits/quickstart.yaml", ["MODEL.DEVICE", "cpu"]),
        LazyConfig.load(str(ROOT / "configs/lazy/digits.py")),
    )
    model = instantiate(lazy.model)
    lazy.optimizer.params.model = model
    ours, theirs = instantiate(lazy.optimizer), build_optimizer(cfg, build_model(cfg))
    assert [(group["lr"], group["weight_decay"], len(group["params"])) for group in ours.param_groups] == [
        (group["lr"], group["weight_decay"], len(group["params"])) for group in theirs.param_groups
    ]
    a, b = (
        LRMultiplier(ours, multiplier=instantiate(lazy.lr_multiplier), max_iter=lazy.train.max_iter),
        build_lr_scheduler(cfg, theirs),
    )
    for _ in range(1000):
        assert a.get_last_lr() == pytest.approx(b.get_last_lr())
        ours.step(), theirs.step(), a.step(), b.step()
    lazy.dataloader.train.num_workers = lazy.dataloader.test.num_workers = 0
    lazy.dataloader.evaluator.output_dir = str(tmp_path)
    batch = next(iter(instantiate(lazy.dataloader.train)))
    loss = sum(model.train()(batch).values())
    assert len(batch) == 8 and loss.isfinite()
    judge = instantiate(lazy.dataloader.evaluator)
    with torch.no_grad():
        for inputs in instantiate(lazy.dataloader.test):
            judge.process(inputs, model.eval()(inputs))
    assert judge.evaluate()["bbox"]["AP"] >= 0
