"""Optimizers and schedules that detectron2 does not have."""

import math

import torch
from fvcore.common.param_scheduler import CompositeParamScheduler, CosineParamScheduler, ParamScheduler

from detectron2 import solver
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.solver.lr_scheduler import LRMultiplier, WarmupParamScheduler

CLIP_TYPES = ("value", "norm")
"""Detectron2's ways to clip gradients, each parameter by itself."""


def build_optimizer(cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
    """SGD or AdamW with detectron2's keys for weight decay, biases and gradient clipping.

    The weights below the pyramid learn at SOLVER.BACKBONE_LR_FACTOR x BASE_LR.

    Raises:
        ValueError: SOLVER.BASE_LR is not finite, or the kind of clipping is unknown.
    """
    if not (math.isfinite(cfg.SOLVER.BASE_LR) and cfg.SOLVER.BASE_LR >= 0):
        raise ValueError(f"SOLVER.BASE_LR must be finite and at least 0; got {cfg.SOLVER.BASE_LR}")
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    if clipping.ENABLED and clipping.CLIP_TYPE not in CLIP_TYPES:
        raise ValueError(f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clipping.CLIP_TYPE!r}; it must be one of {', '.join(CLIP_TYPES)}")
    factor = cfg.SOLVER.BACKBONE_LR_FACTOR
    params = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        lr_factor_func=lambda name: factor if name.startswith("backbone.bottom_up.") else 1.0,
    )
    fused = next(model.parameters()).is_cuda
    common = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY, "fused": fused, "foreach": not fused}
    if cfg.SOLVER.OPTIMIZER == "AdamW":
        optimizer = torch.optim.AdamW(params, **common)
    else:
        optimizer = torch.optim.SGD(params, momentum=cfg.SOLVER.MOMENTUM, nesterov=cfg.SOLVER.NESTEROV, **common)
    return maybe_add_gradient_clipping(cfg, optimizer)


class EqualSteps(ParamScheduler):
    """Falls by ``gamma`` after each of ``num_decays`` + 1 parts of equal length, but for the last.

    As fvcore's ``StepWithFixedGammaParamScheduler``, which has no value at the very end, where training asks for one.

    Example:
        >>> [EqualSteps(gamma=0.5, num_decays=1)(where) for where in (0, 0.25, 0.5, 1)]
        [1.0, 1.0, 0.5, 0.5]
    """

    def __init__(self, *, gamma: float, num_decays: int) -> None:
        self.gamma, self.num_decays = gamma, num_decays

    def __call__(self, where: float) -> float:
        """The factor at a share of the training, 0..1."""
        return float(self.gamma ** min(self.num_decays, int((where + self.WHERE_EPSILON) * (self.num_decays + 1))))


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:
    """Detectron2's schedules, and "OneCycleLR".

    One cycle rises along a cosine from WARMUP_FACTOR x BASE_LR over WARMUP_ITERS and falls along one
    to BASE_LR_END (Smith and Topin 2018, with the cosine of fast.ai).
    """
    if cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupStepWithFixedGammaLR":
        steps = EqualSteps(gamma=cfg.SOLVER.GAMMA, num_decays=cfg.SOLVER.NUM_DECAYS)
        rise = min(cfg.SOLVER.WARMUP_ITERS / cfg.SOLVER.MAX_ITER, 1.0)
        multiplier = WarmupParamScheduler(steps, cfg.SOLVER.WARMUP_FACTOR, rise, cfg.SOLVER.WARMUP_METHOD, cfg.SOLVER.RESCALE_INTERVAL)
        return LRMultiplier(optimizer, multiplier=multiplier, max_iter=cfg.SOLVER.MAX_ITER)
    if cfg.SOLVER.LR_SCHEDULER_NAME != "OneCycleLR":
        return solver.build_lr_scheduler(cfg, optimizer)
    rise = cfg.SOLVER.WARMUP_ITERS / cfg.SOLVER.MAX_ITER
    if not 0 < rise < 1:
        raise ValueError(f"OneCycleLR rises during SOLVER.WARMUP_ITERS, which must lie between 0 and MAX_ITER {cfg.SOLVER.MAX_ITER}; got {cfg.SOLVER.WARMUP_ITERS}")
    multiplier = CompositeParamScheduler(
        [CosineParamScheduler(cfg.SOLVER.WARMUP_FACTOR, 1.0), CosineParamScheduler(1.0, cfg.SOLVER.BASE_LR_END / cfg.SOLVER.BASE_LR)],
        lengths=[rise, 1 - rise],
        interval_scaling=["rescaled", "rescaled"],
    )
    return LRMultiplier(optimizer, multiplier=multiplier, max_iter=cfg.SOLVER.MAX_ITER)
