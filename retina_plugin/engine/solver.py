"""Optimizers and learning-rate schedules, also those that Detectron2 does not have."""

import math
import re

import torch
from fvcore.common.param_scheduler import CompositeParamScheduler, CosineParamScheduler, ParamScheduler

from detectron2 import solver
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.solver.lr_scheduler import LRMultiplier, WarmupParamScheduler

from retina_plugin.registry import SlotRegistry

OPTIMIZER_REGISTRY = SlotRegistry("optimizer", "SOLVER.OPTIMIZER", section="SOLVER.OPTIMIZERS")
"""Optimizer classes as in ``torch.optim``.

They get those arguments that their constructor names: ``params`` (groups, each with "lr" and "weight_decay"), ``lr``,
``weight_decay``, ``momentum``, ``nesterov``, ``fused``, ``foreach``, ``cfg``; and the options that they declare.
"""

LR_SCHEDULER_REGISTRY = SlotRegistry(
    "learning-rate schedule", "SOLVER.LR_SCHEDULER_NAME", section="SOLVER.LR_SCHEDULERS"
)
"""Callables ``schedule(cfg, optimizer) -> LRScheduler``, stepped after every iteration.

The options that they declare are passed as keyword arguments. ``detectron2.solver.LRMultiplier`` makes a scheduler from
a function of the training progress, 0..1.
"""

OPTIMIZER_REGISTRY.register("SGD")(torch.optim.SGD)
OPTIMIZER_REGISTRY.register("AdamW")(torch.optim.AdamW)

BELOW = ("backbone.bottom_up.", "backbone.net.")
"""Name prefixes of the parameters below the pyramid; the second is for Detectron2's pyramid of a plain ViT."""

BLOCK = re.compile(r"(?:[^.\d][^.]*\.)*\d+(?:\.(?:[^.\d][^.]*\.)?\d+)?(?=\.)")
"""Prefix of a parameter's name that identifies its block.

It ends at the first number, or at a second one that follows directly or after one word: "res2.0", "layers.1.blocks.3".
"""

CLIP_TYPES = ("value", "norm")
"""Detectron2's ways to clip gradients; each parameter is clipped separately."""


def build_optimizer(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Build SOLVER.OPTIMIZER with Detectron2's keys for weight decay, biases and gradient clipping.

    The weights below the pyramid are trained with SOLVER.BACKBONE_LR_FACTOR x BASE_LR.

    Raises:
        ValueError: SOLVER.BASE_LR is negative or not finite, or the kind of clipping is unknown.
        TypeError: SOLVER.OPTIMIZER does not build an optimizer.
    """
    if not (math.isfinite(cfg.SOLVER.BASE_LR) and cfg.SOLVER.BASE_LR >= 0):
        raise ValueError(f"SOLVER.BASE_LR must be finite and at least 0; got {cfg.SOLVER.BASE_LR}")
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    if clipping.ENABLED and clipping.CLIP_TYPE not in CLIP_TYPES:
        raise ValueError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clipping.CLIP_TYPE!r}; it must be one of {', '.join(CLIP_TYPES)}"
        )
    factor = cfg.SOLVER.BACKBONE_LR_FACTOR
    decay = layer_factors([name for name, _ in model.named_parameters()], cfg.SOLVER.LAYER_DECAY)
    params = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        lr_factor_func=lambda name: (factor if name.startswith(BELOW) else 1.0) * decay.get(name, 1.0),
    )
    fused = next(model.parameters()).is_cuda
    optimizer = OPTIMIZER_REGISTRY.build(
        cfg.SOLVER.OPTIMIZER,
        cfg=cfg,
        params=params,
        lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        momentum=cfg.SOLVER.MOMENTUM,
        nesterov=cfg.SOLVER.NESTEROV,
        fused=fused,
        foreach=not fused,
    )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"SOLVER.OPTIMIZER {cfg.SOLVER.OPTIMIZER} must build a torch.optim.Optimizer; it built a "
            f"{type(optimizer).__name__}"
        )
    return maybe_add_gradient_clipping(cfg, optimizer)


def layer_factors(names: list[str], decay: float) -> dict[str, float]:
    """Return learning-rate factors of the parameters below the pyramid; they decrease block by block to the input.

    Args:
        names: of all parameters, in the order of the model.
        decay: SOLVER.LAYER_DECAY: d for the last block, d**2 for the one before, ...; 1: no factors.

    Returns:
        Factors by parameter name; without the parameters above.

    Source: Clark et al. 2020, *ELECTRA*, section 3.1; for detectors Li et al. 2022, *ViTDet*, appendix.

    Example:
        >>> blocks = ["stem.conv1", "res2.0.conv1", "res2.1.conv1"]
        >>> layer_factors([*(f"backbone.bottom_up.{block}.weight" for block in blocks), "head.x"], 0.5)
        {'backbone.bottom_up.stem.conv1.weight': 0.125,
         'backbone.bottom_up.res2.0.conv1.weight': 0.25,
         'backbone.bottom_up.res2.1.conv1.weight': 0.5}
    """
    if decay == 1:
        return {}
    blocks = {name: _block_of(name) for name in names if name.startswith(BELOW)}
    place = {block: i for i, block in enumerate(dict.fromkeys(blocks.values()))}
    return {name: decay ** (len(place) - place[block]) for name, block in blocks.items()}


def _block_of(name: str) -> str:
    """Return the block of a parameter below the pyramid, or its first word there if it is in no numbered block."""
    below = name.split(".", 2)[2]
    match = BLOCK.match(below)
    return match[0] if match else below.split(".")[0]


class EqualSteps(ParamScheduler):
    """Multiplies by ``gamma`` after each of ``num_decays`` + 1 parts of equal length except the last.

    Like fvcore's ``StepWithFixedGammaParamScheduler``, which has no value at the very end, where training needs one.

    Example:
        >>> [EqualSteps(gamma=0.5, num_decays=1)(where) for where in (0, 0.25, 0.5, 1)]
        [1.0, 1.0, 0.5, 0.5]
    """

    def __init__(self, *, gamma: float, num_decays: int) -> None:
        self.gamma, self.num_decays = gamma, num_decays

    def __call__(self, where: float) -> float:
        """Return the factor at a training progress of ``where``, 0..1."""
        return float(self.gamma ** min(self.num_decays, int((where + self.WHERE_EPSILON) * (self.num_decays + 1))))


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """Build SOLVER.LR_SCHEDULER_NAME for an optimizer.

    Raises:
        TypeError: it builds something that cannot be stepped.
    """
    name = cfg.SOLVER.LR_SCHEDULER_NAME
    scheduler = LR_SCHEDULER_REGISTRY.get(name)(cfg, optimizer, **LR_SCHEDULER_REGISTRY.options_of(name, cfg))
    if missing := [method for method in ("step", "state_dict", "load_state_dict") if not hasattr(scheduler, method)]:
        raise TypeError(
            f"SOLVER.LR_SCHEDULER_NAME {name} must build an LRScheduler of torch; it built a "
            f"{type(scheduler).__name__}, which has no {', '.join(missing)}"
        )
    return scheduler


@LR_SCHEDULER_REGISTRY.register("WarmupMultiStepLR")
@LR_SCHEDULER_REGISTRY.register("WarmupCosineLR")
def detectron2s_schedule(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:
    """Build Detectron2's own schedule of this name."""
    return solver.build_lr_scheduler(cfg, optimizer)


@LR_SCHEDULER_REGISTRY.register("WarmupStepWithFixedGammaLR")
def equal_steps(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:
    """Build a replacement for Detectron2's schedule of this name, which fails in its last step."""
    steps = EqualSteps(gamma=cfg.SOLVER.GAMMA, num_decays=cfg.SOLVER.NUM_DECAYS)
    rise = min(cfg.SOLVER.WARMUP_ITERS / cfg.SOLVER.MAX_ITER, 1.0)
    multiplier = WarmupParamScheduler(
        steps, cfg.SOLVER.WARMUP_FACTOR, rise, cfg.SOLVER.WARMUP_METHOD, cfg.SOLVER.RESCALE_INTERVAL
    )
    return LRMultiplier(optimizer, multiplier=multiplier, max_iter=cfg.SOLVER.MAX_ITER)


@LR_SCHEDULER_REGISTRY.register("OneCycleLR")
def one_cycle(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:
    """Build a schedule of two cosines: up from WARMUP_FACTOR x BASE_LR over WARMUP_ITERS, then down to BASE_LR_END.

    Source: Smith and Topin 2018, *Super-Convergence*, with the cosine of fast.ai.

    Raises:
        ValueError: SOLVER.WARMUP_ITERS is not between 0 and MAX_ITER.
    """
    rise = cfg.SOLVER.WARMUP_ITERS / cfg.SOLVER.MAX_ITER
    if not 0 < rise < 1:
        raise ValueError(
            f"OneCycleLR rises during SOLVER.WARMUP_ITERS, which must be between 0 and MAX_ITER {cfg.SOLVER.MAX_ITER}; "
            f"got {cfg.SOLVER.WARMUP_ITERS}"
        )
    multiplier = CompositeParamScheduler(
        [
            CosineParamScheduler(cfg.SOLVER.WARMUP_FACTOR, 1.0),
            CosineParamScheduler(1.0, cfg.SOLVER.BASE_LR_END / cfg.SOLVER.BASE_LR),
        ],
        lengths=[rise, 1 - rise],
        interval_scaling=["rescaled", "rescaled"],
    )
    return LRMultiplier(optimizer, multiplier=multiplier, max_iter=cfg.SOLVER.MAX_ITER)
