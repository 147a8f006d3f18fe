"""The hooks of a trainer, in the order in which they run."""

from pathlib import Path
from typing import Any

from fvcore.nn.precise_bn import get_bn_modules

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm

from retina_plugin.engine.evaluation_hook import Evaluation
from retina_plugin.engine.freezing import FrozenStatistics
from retina_plugin.engine.hooks import (
    Checkpoints,
    ExactResume,
    FreezeBackbone,
    GradientNorms,
    Profile,
    RunPage,
    build_hooks,
)
from retina_plugin.engine.progress import Progress

WRITER_PERIOD = 20
"""Iterations between two lines of ``metrics.json`` and of the event file."""


def ordered_hooks(trainer: Any, evaluation: Evaluation, resume: ExactResume) -> list[HookBase]:
    """Return the hooks of Detectron2 and of the plugin; those whose state a checkpoint holds come before it.

    Order at the end of a step: schedule, average of the weights, evaluation, position in the data, SOLVER.HOOKS,
    checkpoint, log, page, progress. The last four run on the main process only.

    Args:
        trainer: a ``RetinaTrainer``, with its config, model and checkpointer.
        evaluation: evaluates during training.
        resume: records the position in the data.

    Raises:
        TypeError: one of SOLVER.HOOKS does not build a hook.
    """
    cfg = trainer.cfg
    found: list[HookBase] = [hooks.IterationTimer(), hooks.LRScheduler()]
    if cfg.SOLVER.PROFILE_ITER > 0:
        found.append(Profile(Path(cfg.OUTPUT_DIR) / "trace.json", iteration=cfg.SOLVER.PROFILE_ITER))
    if cfg.MODEL.FREEZE:
        found.append(FrozenStatistics(trainer.detector))
    if cfg.SOLVER.DETAILS_PERIOD > 0:
        found.append(GradientNorms(trainer.detector, period=cfg.SOLVER.DETAILS_PERIOD))
    if cfg.SOLVER.FREEZE_ITERS > 0:
        found.append(FreezeBackbone(trainer.detector.backbone.bottom_up, iterations=cfg.SOLVER.FREEZE_ITERS))
    if trainer.average:
        found.append(trainer.average)
    if cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(trainer.model):
        found.append(_precise_bn(trainer))
    found += [evaluation, resume, *build_hooks(cfg)]
    if comm.is_main_process():
        writers = trainer.build_writers()
        found += [
            Checkpoints(trainer.checkpointer, period=cfg.SOLVER.CHECKPOINT_PERIOD, kept=cfg.SOLVER.CHECKPOINTS_KEPT),
            hooks.PeriodicWriter(writers, period=WRITER_PERIOD),
        ]
        if cfg.TEST.REPORT:
            found.append(RunPage(cfg, evaluation, writers=writers))
        found.append(Progress(images=cfg.SOLVER.IMS_PER_BATCH))
    return found


def _precise_bn(trainer: Any) -> HookBase:
    """Build the hook that estimates BatchNorm statistics before an evaluation, with a loader in the main process."""
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0
    loader = trainer.build_train_loader(cfg)
    return hooks.PreciseBN(cfg.TEST.EVAL_PERIOD, trainer.model, loader, cfg.TEST.PRECISE_BN.NUM_ITER)
