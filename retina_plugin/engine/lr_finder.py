"""Find a learning rate: record the loss while the rate rises from step to step."""

import dataclasses
import json
import logging
import math
from pathlib import Path

import matplotlib.pyplot as plt

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.utils.events import EventStorage

from retina_plugin.engine.loop import TrainingDiverged

logger = logging.getLogger(__name__)

SMOOTHING, TOO_MUCH = 0.9, 4.0
"""Decay of the loss average per step, and the multiple of the smallest loss that ends the search."""

SKIPPED = 5
"""First steps, which are ignored: the average of the loss is not settled yet."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Learning rates and the smoothed losses at these rates, step by step."""

    rates: list[float]
    losses: list[float]

    @property
    def suggestion(self) -> float | None:
        """A tenth of the rate with the smallest loss; None if that is the first or last rate: then widen the bounds.

        Source: Smith 2017, *Cyclical Learning Rates for Training Neural Networks*, section 3.3, reads the largest
        useful rate off this curve; a tenth of it is the rule of fast.ai. Its other rule, the rate at the steepest
        descent, depends on single batches in short searches.
        """
        losses = self.losses[SKIPPED:]
        if not losses:
            return None
        least = losses.index(min(losses))
        return self.rates[SKIPPED + least] / 10 if 0 < least < len(losses) - 1 else None


def find_lr(
    cfg: CfgNode, *, trainer: type[DefaultTrainer], low: float = 1e-6, high: float = 1.0, steps: int = 100
) -> Curve:
    """Train while the learning rate rises by a constant factor per step, until the loss explodes.

    Args:
        cfg: as for a training; its schedule is not used, and nothing is saved.
        trainer: a subclass of ``RetinaTrainer``.
        low: first rate, of the parameters whose learning-rate factor is 1.
        high: last rate of these parameters.
        steps: largest number of steps.

    Raises:
        ValueError: the bounds or the number of steps are not usable, or the config cannot be trained.
    """
    if not 0 < low < high < math.inf or steps < 2 * SKIPPED:
        raise ValueError(
            f"learning rates must rise from above 0 in at least {2 * SKIPPED} steps; got {low:g} to {high:g} in {steps}"
        )
    run = trainer(cfg)
    run.resume_or_load(resume=False)
    # A schedule usually keeps the initial rate of each group; if it does not, the current rate is the initial one.
    factors = [group.get("initial_lr", group["lr"]) / run.cfg.SOLVER.BASE_LR for group in run.optimizer.param_groups]
    rates, losses, average = [], [], 0.0
    with EventStorage() as storage:
        for step in range(steps):
            rate = low * (high / low) ** (step / (steps - 1))
            for group, factor in zip(run.optimizer.param_groups, factors, strict=True):
                group["lr"] = rate * factor
            try:
                run._trainer.run_step()
            except TrainingDiverged:
                break
            loss = storage.latest()["total_loss"][0]
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            smoothed = average / (1 - SMOOTHING ** (step + 1))
            rates.append(rate)
            losses.append(smoothed)
            if step > SKIPPED and smoothed > TOO_MUCH * min(losses):
                break
            storage.step()
    return Curve(rates, losses)


def write_curve(curve: Curve, folder: Path, *, used: float) -> list[Path]:
    """Write ``lr.json`` and ``lr.png``, and return their paths.

    Args:
        curve: from :func:`find_lr`.
        folder: created if it does not exist.
        used: SOLVER.BASE_LR, drawn in addition to the suggestion.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, picture = folder / "lr.json", folder / "lr.png"
    data.write_text(
        json.dumps({"suggestion": curve.suggestion, "rates": curve.rates, "losses": curve.losses}, indent=1),
        encoding="utf-8",
    )
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.semilogx(curve.rates, curve.losses, color="#0072B2")
    axes.set(xlabel="learning rate", ylabel="loss, smoothed", title="loss while the learning rate rises")
    axes.axvline(used, color="gray", linestyle=":", label=f"SOLVER.BASE_LR {used:g}")
    if curve.suggestion is not None:
        axes.axvline(curve.suggestion, color="#D55E00", label=f"suggestion {curve.suggestion:.2g}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=110)
    plt.close(figure)
    return [data, picture]
