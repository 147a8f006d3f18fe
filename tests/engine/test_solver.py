"""Optimizers and learning-rate schedules."""

import math

import pytest
import torch
from option_pairs import pairs
from support import tiny_cfg
from torch import nn

from detectron2.modeling import build_model
from detectron2.solver import build_optimizer as detectron2_build_optimizer

from retina_plugin.config.values import Number
from retina_plugin.engine.solver import (
    LR_SCHEDULER_REGISTRY,
    OPTIMIZER_REGISTRY,
    build_lr_scheduler,
    build_optimizer,
    layer_factors,
)
from retina_plugin.registry import Option


def model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_sgd_and_adamw_read_their_keys():
    sgd = build_optimizer(tiny_cfg("SOLVER.MOMENTUM", 0.8), model())
    assert isinstance(sgd, torch.optim.SGD) and sgd.param_groups[0]["momentum"] == 0.8
    adamw = build_optimizer(
        tiny_cfg("SOLVER.OPTIMIZER", "AdamW", "SOLVER.WEIGHT_DECAY", 0.05, "SOLVER.WEIGHT_DECAY_NORM", 0.0), model()
    )
    assert isinstance(adamw, torch.optim.AdamW)
    assert sorted({g["weight_decay"] for g in adamw.param_groups}) == [0.0, 0.05]


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_the_backbone_can_have_a_smaller_learning_rate(name):
    net = build_model(tiny_cfg())
    cfg = tiny_cfg("SOLVER.OPTIMIZER", name, "SOLVER.BASE_LR", 0.1, "SOLVER.BACKBONE_LR_FACTOR", 0.25)
    rate = {id(p): group["lr"] for group in build_optimizer(cfg, net).param_groups for p in group["params"]}
    for parameter_name, parameter in net.named_parameters():
        want = 0.025 if parameter_name.startswith("backbone.bottom_up.") else 0.1
        assert rate[id(parameter)] == pytest.approx(want), parameter_name


def test_sgd_equals_that_of_detectron2():
    cfg = tiny_cfg("SOLVER.WEIGHT_DECAY_NORM", 0.0, "SOLVER.BIAS_LR_FACTOR", 2.0, "SOLVER.NESTEROV", True)
    torch.manual_seed(0)
    ours, theirs = model(), model()
    theirs.load_state_dict(ours.state_dict())
    for net, build in ((ours, build_optimizer), (theirs, detectron2_build_optimizer)):
        optimizer = build(cfg, net)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(2, 3, 8, 8)).square().sum().backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_gradients_are_clipped_if_enabled(name):
    cfg = tiny_cfg(
        "SOLVER.OPTIMIZER", name, "SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.5
    )
    net = model()
    optimizer = build_optimizer(cfg, net)
    for p in net.parameters():
        p.grad = torch.full_like(p, 10.0)
    optimizer.step()
    assert all(p.grad.abs().max() <= 0.5 for p in net.parameters())


def rates(*opts):
    cfg = tiny_cfg(
        "SOLVER.BASE_LR", 1.0, "SOLVER.MAX_ITER", 100, "SOLVER.WARMUP_ITERS", 20, "SOLVER.WARMUP_FACTOR", 0.1, *opts
    )
    optimizer = build_optimizer(cfg, model())
    scheduler = build_lr_scheduler(cfg, optimizer)
    result = []
    for _ in range(100):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return result


def test_one_cycle_rises_and_falls_in_cosines():
    lr = rates("SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", "SOLVER.BASE_LR_END", 0.0)
    assert lr[0] == pytest.approx(0.1)
    assert lr[10] == pytest.approx(0.55)  # half way up: (0.1 + 1) / 2
    assert lr[20] == pytest.approx(1.0)
    assert lr[60] == pytest.approx(0.5)  # half way down
    assert lr[80] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.75)))


@pytest.mark.parametrize("name", ["WarmupMultiStepLR", "WarmupCosineLR"])
def test_schedules_of_detectron2_work(name):
    lr = rates("SOLVER.LR_SCHEDULER_NAME", name, "SOLVER.STEPS", "(60,)")
    assert lr[0] == pytest.approx(0.1) and lr[20] > 0.85 and lr[99] < 0.2


def test_one_cycle_with_only_a_rise_is_refused():
    with pytest.raises(ValueError, match="WARMUP_ITERS"):
        rates("SOLVER.LR_SCHEDULER_NAME", "OneCycleLR", "SOLVER.WARMUP_ITERS", 100)


def test_equal_steps_are_those_of_fvcore_and_have_a_value_at_the_end():
    from fvcore.common.param_scheduler import StepWithFixedGammaParamScheduler

    from retina_plugin.engine.solver import EqualSteps

    theirs, mine = StepWithFixedGammaParamScheduler(1.0, 3, 0.1, 100), EqualSteps(gamma=0.1, num_decays=3)
    for i in range(100):
        assert abs(mine(i / 100) - theirs(i / 100)) < 1e-12
    assert abs(mine(1.0) - 0.001) < 1e-12


@pytest.fixture()
def registered(monkeypatch):
    """Register a variant for the length of a test."""
    from retina_plugin.registry import OPTIONS

    monkeypatch.setattr("retina_plugin.registry.OPTIONS", OPTIONS)

    def register(registry, name, variant, options=()):
        registry.register(name, options=options)(variant)
        added.append((registry, name))

    added = []
    yield register
    for registry, name in added:
        for key in registry.option_keys(name).values():
            OPTIONS.pop(key)
        registry._obj_map.pop(name)
        registry._options.pop(name)


def test_an_optimizer_of_torch_can_be_registered_directly(registered):
    registered(
        OPTIMIZER_REGISTRY, "RMSprop", torch.optim.RMSprop, [Option("alpha", Number(float, 0, 1), 0.99, "Smoothing.")]
    )
    options = {"SOLVER.OPTIMIZER": "RMSprop", "SOLVER.OPTIMIZERS.RMSPROP_ALPHA": 0.5}
    cfg = tiny_cfg(*pairs({**options, "SOLVER.BASE_LR": 0.02, "SOLVER.MOMENTUM": 0.3}))
    optimizer = build_optimizer(cfg, build_model(cfg))
    assert type(optimizer) is torch.optim.RMSprop and optimizer.param_groups[0]["lr"] == 0.02
    assert (optimizer.defaults["alpha"], optimizer.defaults["momentum"]) == (0.5, 0.3)


def test_a_variant_that_builds_no_optimizer_or_schedule_is_refused(registered):
    registered(OPTIMIZER_REGISTRY, "nothing", lambda params: params)
    registered(LR_SCHEDULER_REGISTRY, "nothing", lambda cfg, optimizer: 3)
    cfg = tiny_cfg("SOLVER.OPTIMIZER", "nothing")
    with pytest.raises(TypeError, match="SOLVER.OPTIMIZER nothing must build a torch.optim.Optimizer; it built a list"):
        build_optimizer(cfg, build_model(cfg))
    cfg = tiny_cfg("SOLVER.LR_SCHEDULER_NAME", "nothing")
    text = "SOLVER.LR_SCHEDULER_NAME nothing must build an LRScheduler of torch; it built a int"
    with pytest.raises(TypeError, match=text):
        build_lr_scheduler(cfg, None)


def test_a_custom_schedule_gets_its_option(registered):
    registered(
        LR_SCHEDULER_REGISTRY,
        "polynomial",
        lambda cfg, optimizer, power: torch.optim.lr_scheduler.PolynomialLR(optimizer, cfg.SOLVER.MAX_ITER, power),
        [Option("power", Number(float, 0), 1.0, "Of the fall.")],
    )
    options = {"SOLVER.LR_SCHEDULER_NAME": "polynomial", "SOLVER.LR_SCHEDULERS.POLYNOMIAL_POWER": 2.0}
    cfg = tiny_cfg(*pairs({**options, "SOLVER.MAX_ITER": 10, "SOLVER.BASE_LR": 1.0}))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_lr_scheduler(cfg, optimizer)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.25)


RESNET = {"MODEL.BOTTOM_UP.NAME": "build_retina_resnet"}
TIMM = {"MODEL.BOTTOM_UP.NAME": "build_retina_timm"}
DETECTRON2_VIT = {"MODEL.BOTTOM_UP.NAME": "build_retina_detectron2"}
PLAIN_VIT = {
    "MODEL.BACKBONE.NAME": "build_retina_vit_backbone",
    "MODEL.DETECTRON2.NAME": "vit_ti",
    "MODEL.FPN.TOP_BLOCK": "conv_p5",
}
BELOW = "backbone.bottom_up"


@pytest.mark.parametrize(
    "options, first, last, count",
    [
        # the stem, and 4 x 2 blocks
        (RESNET, f"{BELOW}.stem.conv1.weight", f"{BELOW}.res5.1.conv2.weight", 9),
        # the stem with its norm, and 16 blocks
        (TIMM, f"{BELOW}.net.conv_stem.weight", f"{BELOW}.net.blocks.6.0.conv_pwl.weight", 17),
        (DETECTRON2_VIT, f"{BELOW}.net.patch_embed.proj.weight", None, None),
        (PLAIN_VIT, "backbone.net.pos_embed", "backbone.net.blocks.11.attn.qkv.weight", 14),
    ],
)
def test_the_rate_falls_from_block_to_block_towards_the_image(options, first, last, count):
    cfg = tiny_cfg(*pairs(options), "SOLVER.LAYER_DECAY", 0.8, "SOLVER.BASE_LR", 0.1)
    model = build_model(cfg)
    factors = layer_factors([name for name, _ in model.named_parameters()], 0.8)
    different = sorted(set(factors.values()))
    assert factors[first] == different[0]
    assert last is None or factors[last] == pytest.approx(0.8)
    assert count is None or len(different) == count
    assert not any(name.startswith(("head.", "backbone.fpn_", "backbone.simfp")) for name in factors)
    rates = {id(p): group["lr"] for group in build_optimizer(cfg, model).param_groups for p in group["params"]}
    rate = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert rate[first] == pytest.approx(0.1 * factors[first])
    assert rate["head.cls_score.weight"] == pytest.approx(0.1)
