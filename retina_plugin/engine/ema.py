"""Averages of the weights over the steps of a training."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.engine import HookBase


class WeightAverage(HookBase):
    """Keeps an exponential moving average of the weights, which is evaluated and saved instead of them.

    After t steps it moves by 1 - min(decay, (1 + t) / (10 + t)), so that the first steps are soon forgotten.
    Checkpoints hold the average as "model", and the trained weights in the state of this hook.

    Args:
        model: the detector (not wrapped).
        decay: SOLVER.EMA_DECAY, in (0, 1).

    Source: Polyak & Juditsky 1992; the warm-up is that of TensorFlow's ``ExponentialMovingAverage``.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.model, self.decay, self.steps = model, decay, 0
        self.average = self._copy()
        self._trained: dict[str, Tensor] | None = None

    def _copy(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def before_train(self) -> None:
        """Start from the loaded weights, unless the run is resumed."""
        if self.steps == 0:
            self.average = self._copy()

    @torch.no_grad()
    def after_step(self) -> None:
        """Move towards the weights of this step; integer tensors, such as counters, are copied."""
        self.steps += 1
        weight = self._weight()
        state = self.model.state_dict()
        floating = [name for name, tensor in state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in floating], [state[name] for name in floating], weight)
        for name in state.keys() - set(floating):
            self.average[name].copy_(state[name])

    def _weight(self) -> float:
        """Return how far the average moves in this step, in 0..1."""
        return 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Load the average into the model, and the trained weights again at the end. Can be nested."""
        if self._trained is not None:
            yield
            return
        self._trained = self._copy()
        self.model.load_state_dict(self.average)
        try:
            yield
        finally:
            self.model.load_state_dict(self._trained)
            self._trained = None

    def state_dict(self) -> dict:
        """Return "steps", and "trained": the weights that training continues from."""
        return {"steps": self.steps, "trained": self._trained if self._trained is not None else self._copy()}

    def load_state_dict(self, state: dict) -> None:
        """Take the average from the model, into which it was loaded, and give the model the trained weights."""
        self.steps, self.average = state["steps"], self._copy()
        self.model.load_state_dict(state["trained"])


class LastWeights(WeightAverage):
    """Keeps the unweighted mean of the weights of the last iterations; before those it equals the current weights.

    Args:
        model: the detector (not wrapped).
        iterations: SOLVER.SWA_ITERS.
        max_iter: SOLVER.MAX_ITER.

    Source: Izmailov et al. 2018, *Averaging Weights Leads to Wider Optima*; with the schedule of the config instead of
    a cyclic one.
    """

    def __init__(self, model: nn.Module, *, iterations: int, max_iter: int) -> None:
        super().__init__(model, decay=0.0)
        self.first = max_iter - iterations

    def _weight(self) -> float:
        return 1 / max(1, self.steps - self.first)


def build_average(cfg: CfgNode, model: nn.Module) -> WeightAverage | None:
    """Build the average that SOLVER.EMA_DECAY or SOLVER.SWA_ITERS asks for; None if both are 0."""
    if cfg.SOLVER.EMA_DECAY > 0:
        return WeightAverage(model, decay=cfg.SOLVER.EMA_DECAY)
    if cfg.SOLVER.SWA_ITERS > 0:
        return LastWeights(model, iterations=cfg.SOLVER.SWA_ITERS, max_iter=cfg.SOLVER.MAX_ITER)
    return None
