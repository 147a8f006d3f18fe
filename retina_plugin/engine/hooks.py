"""Hooks that run between the steps of a training."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, JSONWriter

from retina_plugin.data.loader import SimilarSizeBatches
from retina_plugin.engine.checkpoint import RetinaCheckpointer
from retina_plugin.engine.evaluation_hook import Evaluation
from retina_plugin.engine.folder import keep_latest
from retina_plugin.engine.parts import part_of
from retina_plugin.evaluation import write_results
from retina_plugin.registry import SlotRegistry
from retina_plugin.report.run_page import write_run_report

logger = logging.getLogger(__name__)

HOOK_REGISTRY = SlotRegistry("hook", "SOLVER.HOOKS", section="SOLVER.HOOK_OPTIONS")
"""Subclasses of Detectron2's ``HookBase``.

They get ``cfg`` if their constructor names it, and the options that they declare. ``self.trainer`` is the trainer;
``self.trainer.storage.put_scalar`` logs a number; what ``state_dict()`` returns is kept in checkpoints.
"""


def build_hooks(cfg: CfgNode) -> list[HookBase]:
    """Build the hooks that SOLVER.HOOKS names.

    Raises:
        TypeError: one is not a ``HookBase``.
    """
    found = [HOOK_REGISTRY.build(name, cfg=cfg) for name in cfg.SOLVER.HOOKS]
    for name, hook in zip(cfg.SOLVER.HOOKS, found, strict=True):
        if not isinstance(hook, HookBase):
            raise TypeError(
                f"SOLVER.HOOKS {name} must build a detectron2.engine.HookBase; it built a {type(hook).__name__}"
            )
    return found


class ExactResume(HookBase):
    """Makes a run that was killed and resumed equal to one that was not.

    Each step is seeded separately, and a checkpoint holds the position of every process in its stream of images. Must
    come before the hook that writes checkpoints.

    Args:
        loader: of this process; one without ``state_dict``, such as Detectron2's own, starts its images from the
            beginning when a run is resumed.
        period: SOLVER.CHECKPOINT_PERIOD, in iterations.
        seed: SEED; if negative, torch's random numbers are left alone.

    Attributes:
        exact: whether the loader can save and restore its position.
    """

    def __init__(self, loader: SimilarSizeBatches | Iterable, *, period: int, seed: int) -> None:
        self.loader: Any = loader  # its position is used only if it has one, see ``exact``
        self.period, self.seed = period, seed
        self.exact = all(hasattr(loader, name) for name in ("state_dict", "load_state_dict", "batch_size"))
        self._state: dict = {}
        if not self.exact:
            logger.warning(
                "the training loader (%s) cannot save its position in the images, which needs state_dict, "
                "load_state_dict and batch_size: a resumed run will start them from the beginning",
                type(loader).__name__,
            )

    def before_step(self) -> None:
        """Seed torch for the step (dropout, stochastic depth)."""
        if self.seed >= 0:
            torch.manual_seed(hash((self.seed, comm.get_rank(), self.trainer.iter)))

    def after_step(self) -> None:
        """Record the positions of all processes in their data, if a checkpoint follows."""
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self.period > 0 and done % self.period == 0):
            self.note()

    def note(self) -> None:
        """Record the positions of all processes in their data; must be called by all of them."""
        if self.exact:
            self._state = {
                "iteration": self.trainer.iter,
                "processes": comm.gather(self.loader.state_dict()),
                "batch_size": self.loader.batch_size,
            }

    def state_dict(self) -> dict:
        """Return "iteration", "batch_size" per process, and "processes": the state of every loader."""
        return self._state

    def load_state_dict(self, state: dict) -> None:
        """Restore the position in the data, if number of processes and batch size are those of the checkpoint."""
        if not self.exact:
            logger.warning("resumed with a loader that cannot restore its position: images start from the beginning")
        elif (len(state["processes"]), state["batch_size"]) == (comm.get_world_size(), self.loader.batch_size):
            self.loader.load_state_dict(state["processes"][comm.get_rank()])
            self._state = state
        else:
            logger.warning(
                "resumed with a different number of processes or batch size: images start from the beginning"
            )


class Checkpoints(HookBase):
    """Writes ``model_<iteration>.pth`` every ``period`` iterations and ``model_final.pth`` at the end.

    Args:
        checkpointer: writes the files.
        period: SOLVER.CHECKPOINT_PERIOD, in iterations; 0: at the end only.
        kept: SOLVER.CHECKPOINTS_KEPT, how many files to keep, including those from before a resume; 0: all.
    """

    def __init__(self, checkpointer: RetinaCheckpointer, *, period: int, kept: int) -> None:
        self.checkpointer, self.period, self.kept = checkpointer, period, kept

    def after_step(self) -> None:
        """Write a checkpoint if it is due."""
        iteration = self.trainer.iter
        if self.period > 0 and (iteration + 1) % self.period == 0:
            self.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
            if self.kept:
                keep_latest(Path(self.checkpointer.save_dir), self.kept)
        if iteration + 1 >= self.trainer.max_iter:
            self.checkpointer.save("model_final", iteration=iteration)


class FreezeBackbone(HookBase):
    """Freezes the network below the pyramid for the first iterations, while neck and head are trained.

    Args:
        bottom_up: the network below the pyramid.
        iterations: SOLVER.FREEZE_ITERS.
    """

    def __init__(self, bottom_up: nn.Module, *, iterations: int) -> None:
        self.bottom_up, self.iterations = bottom_up, iterations

    def before_step(self) -> None:
        """Keep its BatchNorm statistics fixed while it is frozen."""
        if self.trainer.iter <= self.iterations:
            self.bottom_up.train(self.trainer.iter == self.iterations)

    def after_backward(self) -> None:
        """Drop its gradients, so that the optimizer skips its weights.

        They keep ``requires_grad``: without it, DDP would wait for their gradients.
        """
        if self.trainer.iter < self.iterations:
            for parameter in self.bottom_up.parameters():
                parameter.grad = None


class GradientNorms(HookBase):
    """Logs the norm of the gradients of backbone, neck and head, as "gradient_norm/neck" and so on.

    Args:
        model: the detector.
        period: SOLVER.DETAILS_PERIOD, in iterations.
    """

    def __init__(self, model: nn.Module, *, period: int) -> None:
        self.model, self.period = model, period

    def after_backward(self) -> None:
        """Log if it is due; synchronises with the GPU."""
        if (self.trainer.iter + 1) % self.period:
            return
        squares: dict[str, Tensor] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                part = part_of(name)
                squares[part] = squares.get(part, 0) + parameter.grad.float().square().sum()
        for part, square in squares.items():
            self.trainer.storage.put_scalar(f"gradient_norm/{part}", float(square.sqrt()), smoothing_hint=False)


class Profile(HookBase):
    """Records one step with torch's profiler.

    Args:
        file: path of the trace, which Chrome and Perfetto can open.
        iteration: SOLVER.PROFILE_ITER, from 1.
    """

    def __init__(self, file: Path, *, iteration: int) -> None:
        self.file, self.iteration = file, iteration
        self.profiler: torch.profiler.profile | None = None

    def before_step(self) -> None:
        """Start the profiler before its step."""
        if self.trainer.iter + 1 == self.iteration:
            self.profiler = torch.profiler.profile(profile_memory=True)
            self.profiler.__enter__()

    def after_step(self) -> None:
        """Stop the profiler, write the trace and log what took longest."""
        if self.profiler is None:
            return
        self.profiler.__exit__(None, None, None)
        profiler, self.profiler = self.profiler, None
        if comm.is_main_process():
            profiler.export_chrome_trace(str(self.file))
            kind = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
            logger.debug("%s", profiler.key_averages().table(sort_by=kind, row_limit=15))
            longest = sorted(profiler.key_averages(), key=lambda event: -getattr(event, kind))[:3]
            logger.info(
                "profile of iteration %d in %s; longest: %s",
                self.iteration,
                self.file,
                ", ".join(f"{event.key} {getattr(event, kind) / 1e3:.0f} ms" for event in longest),
            )


class RunPage(HookBase):
    """Writes ``results.json`` and ``report.html`` after every evaluation. Must come after the writers.

    Args:
        cfg: config of the run.
        evaluation: hook whose results are shown.
        writers: event writers; that of ``metrics.json`` is flushed first, because the page reads the file.
    """

    def __init__(self, cfg: CfgNode, evaluation: Evaluation, *, writers: list[EventWriter]) -> None:
        self.cfg, self.evaluation = cfg, evaluation
        self.shown: dict | None = None
        self.writers = [writer for writer in writers if isinstance(writer, JSONWriter)]

    def after_step(self) -> None:
        """Write if there are new results."""
        results = self.evaluation.results
        if results and "bbox" in results and results is not self.shown:
            self.shown = results
            for writer in self.writers:
                writer.write()
            write_results(results, self.cfg.OUTPUT_DIR, f"{', '.join(self.cfg.DATASETS.TEST)}, {self.cfg.OUTPUT_DIR}")
            write_page(self.cfg.OUTPUT_DIR)


def write_page(folder: str) -> None:
    """Write ``report.html`` of a run; if that fails, the error is logged and the run continues."""
    try:
        logger.debug("wrote %s", write_run_report(folder))
    except Exception:
        logger.exception("report.html could not be written")
