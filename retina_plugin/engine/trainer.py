"""Detectron2's ``DefaultTrainer`` with the plugin's precision, solver, checkpoints and evaluation."""

import contextlib
import logging
import os
import signal
import weakref
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, create_ddp_model
from detectron2.evaluation import DatasetEvaluator, verify_results
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter, TensorboardXWriter

from retina_plugin.config import INFO_KEY, ready_config
from retina_plugin.data.loader import SimilarSizeBatches
from retina_plugin.engine import builders
from retina_plugin.engine.checkpoint import RetinaCheckpointer, class_names
from retina_plugin.engine.dump import write_dump
from retina_plugin.engine.ema import build_average
from retina_plugin.engine.ending import Stopped, verdict
from retina_plugin.engine.evaluation_hook import BEST, Evaluation, StopTraining
from retina_plugin.engine.folder import numbered
from retina_plugin.engine.gradients import parameters_without_gradient
from retina_plugin.engine.hook_order import ordered_hooks
from retina_plugin.engine.hooks import ExactResume
from retina_plugin.engine.loop import PrecisionTrainer
from retina_plugin.engine.resume import (
    begin_metrics,
    compare,
    find_checkpoint,
    peek,
    repair_metrics,
    restore_settings,
    resume_command,
    settings_of,
)
from retina_plugin.engine.setup import seed
from retina_plugin.engine.signals import StopOnSignal
from retina_plugin.engine.solver import build_lr_scheduler, build_optimizer
from retina_plugin.engine.trackers import build_trackers
from retina_plugin.engine.validation_loss import validation_losses
from retina_plugin.evaluation import thresholds_in
from retina_plugin.registry import SlotRegistry

logger = logging.getLogger(__name__)

MODEL_FILE = "model.txt"
"""File with the printed model in the folder of a run."""

TRAINER_REGISTRY = SlotRegistry("trainer", "SOLVER.TRAINER", section="SOLVER.TRAINERS")
"""Subclasses of :class:`RetinaTrainer`; their constructor takes the config."""


class Interrupted(BaseException):
    """Ends the training after a step, or in the evaluation that follows it, because of a signal."""

    def __init__(self, *, in_evaluation: bool = False) -> None:
        super().__init__()
        self.in_evaluation = in_evaluation


@TRAINER_REGISTRY.register("RetinaTrainer")
class RetinaTrainer(DefaultTrainer):
    """Trains the model of a config with Detectron2's hooks, writers and loaders.

    Args:
        cfg: from :func:`retina_plugin.load_config`; one from elsewhere is resolved and checked here.

    Raises:
        ValueError: the config cannot be trained, see :func:`retina_plugin.ready_config`.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer's constructor only supports AMP on CUDA and its own checkpointer, so it is not called.
        TrainerBase.__init__(self)
        self.cfg = cfg = ready_config(cfg, training=True)
        self._signal = 0
        if cfg.SEED >= 0 or cfg.DETERMINISTIC:
            seed(cfg)  # two trainers of one config start with the same weights, whatever ran before
        model = self.build_model(cfg)
        if comm.get_world_size() > 1 and (unused := parameters_without_gradient(model)):
            names = ", ".join(unused[:3]) + (", ..." if len(unused) > 3 else "")
            raise ValueError(
                f"{len(unused)} trained parameters get no gradient ({names}), and several processes would wait for it: "
                "train in one process, or use a network all of whose parts lead to MODEL.RETINANET.LEVELS"
            )
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        precision = str(getattr(model, "autocast_dtype", None) or torch.float32).removeprefix("torch.")
        logger.info("training on %s in %s", model.device, precision)
        ddp_arguments = {} if model.device.type == "cuda" else {"device_ids": None}
        model = create_ddp_model(model, broadcast_buffers=False, **ddp_arguments)
        self._trainer = PrecisionTrainer(model, data_loader, optimizer, accumulate=cfg.SOLVER.ACCUMULATE)
        trainer = weakref.proxy(self)
        self._trainer.explain = lambda batch, losses, norm: trainer.write_dump(batch, losses, norm)
        # The inner trainer has no hooks, so without this Detectron2 would never call after_backward.
        self._trainer.after_backward = lambda: trainer.after_backward()
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.average = build_average(cfg, self.detector)
        self.checkpointer = RetinaCheckpointer(
            model, cfg.OUTPUT_DIR, cfg=cfg, average=self.average, trainer=weakref.proxy(self)
        )
        self.checkpointer.facts["image_size"] = getattr(data_loader, "image_size", None)
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        if comm.is_main_process():
            Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
        self.register_hooks(self.build_hooks())

    @property
    def detector(self) -> Any:
        """The model without the wrapper for several processes; an ``nn.Module``."""
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    @property
    def results(self) -> dict | None:
        """Results of the last evaluation, on the main process."""
        return self._evaluation.results

    def build_hooks(self) -> list[HookBase]:
        """Build the hooks of Detectron2 and of the plugin; those whose state a checkpoint holds come before it.

        Order at the end of a step: schedule, average of the weights, evaluation, position in the data, SOLVER.HOOKS,
        checkpoint, log, page, progress.

        Raises:
            TypeError: one of SOLVER.HOOKS does not build a hook.
        """
        cfg, trainer = self.cfg, weakref.proxy(self)  # hooks and trainer must not own each other
        self._evaluation = Evaluation(
            period=cfg.TEST.EVAL_PERIOD,
            evaluate=lambda: trainer.evaluate_now(),
            save=lambda name: trainer.save_beside(name),
            metric=cfg.TEST.BEST_METRIC if cfg.DATASETS.TEST and cfg.TEST.EVAL_PERIOD > 0 else "",
            patience=cfg.TEST.EARLY_STOP_PATIENCE,
            stopping=lambda: trainer._trainer.stop_agreed,
        )
        self._resume = ExactResume(self._trainer.data_loader, period=cfg.SOLVER.CHECKPOINT_PERIOD, seed=cfg.SEED)
        return ordered_hooks(self, self._evaluation, self._resume)

    def build_writers(self) -> list[EventWriter]:
        """Build Detectron2's writers and the trackers of LOGGING.TRACKERS.

        The console's is left out (see ``Progress``) and, if it is absent, TensorBoard's.
        """
        repair_metrics(Path(self.cfg.OUTPUT_DIR) / "metrics.json")
        left_out: tuple[type[EventWriter], ...] = (CommonMetricPrinter,)
        if find_spec("tensorboard") is None:  # an extra, [tracking]
            left_out += (TensorboardXWriter,)
        writers = [writer for writer in super().build_writers() if not isinstance(writer, left_out)]
        return [*writers, *build_trackers(self.cfg)]

    def resume_or_load(self, resume: bool = True) -> None:
        """Load MODEL.WEIGHTS, or resume from the last intact checkpoint of OUTPUT_DIR.

        A resumed run uses the learning rate and schedule of the config.

        Args:
            resume: whether to resume if there is a checkpoint.

        Raises:
            FileNotFoundError: MODEL.WEIGHTS does not exist.
            ValueError: the weights cannot be read, no checkpoint is intact, or the config has a different model or
                optimizer than the checkpoint.
        """
        file = self._checkpoint_to_resume() if resume else None
        if file is None:
            self.checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
            return
        held = peek(file)
        if "trainer" not in held:
            raise ValueError(
                f"{file} holds weights, but no training state for --resume; MODEL.WEIGHTS {file} starts a new training "
                "from them"
            )
        changes = compare(held[INFO_KEY], self.cfg, class_names(self.cfg)) if INFO_KEY in held else []
        del held
        settings, base_lrs = settings_of(self.optimizer), list(getattr(self.scheduler, "base_lrs", []))
        loaded = self.checkpointer.load(str(file), complete=True)
        self.checkpointer.facts["thresholds"] = loaded.get(INFO_KEY, {}).get("thresholds")
        restore_settings(self.optimizer, self.scheduler, settings, base_lrs)
        self.start_iter = self.iter + 1
        if changes:
            logger.info("resumed with changed settings: %s", "; ".join(changes))

    def _checkpoint_to_resume(self) -> Path | None:
        """Return on all processes the checkpoint that the main process has found.

        Raises:
            ValueError: no checkpoint is intact.
        """
        found: Path | ValueError | None = None
        if comm.is_main_process():
            try:
                found = find_checkpoint(self.cfg.OUTPUT_DIR)
            except ValueError as error:
                found = error
        found = comm.all_gather(found)[0]
        if isinstance(found, ValueError):
            raise found
        return found

    def save_beside(self, name: str) -> None:
        """Write a checkpoint next to the periodic ones; a resumed run starts from it unless it is the best one.

        The best one holds weights and description only: what is needed to use it.
        """
        self.checkpointer.save(name, tag=name != BEST, slim=name == BEST, iteration=self.iter)

    def train(self) -> None:
        """Train until SOLVER.MAX_ITER, or until the metric stops improving (TEST.EARLY_STOP_PATIENCE).

        Raises:
            Stopped: SIGINT or SIGTERM was received; a checkpoint to resume from was written if any step was done.
            TrainingDiverged: losses or gradients are not finite.
        """
        if comm.is_main_process():
            if not self.start_iter:
                begin_metrics(Path(self.cfg.OUTPUT_DIR))
            (Path(self.cfg.OUTPUT_DIR) / MODEL_FILE).write_text(f"{self.detector}\n", encoding="utf-8")
        try:
            with StopOnSignal(self._ask_to_stop):
                TrainerBase.train(self, self.start_iter, self.max_iter)
        except StopTraining:
            self.iter -= 1  # the step that was not taken does not count
            if comm.is_main_process():
                self.checkpointer.save("model_final", iteration=self.iter)
        except Interrupted as interrupted:
            self._end_interrupted(interrupted)
        if self._trainer.stop_agreed and self._evaluation.pending:  # a signal in the last step, which nothing follows
            raise Stopped(self._signal or signal.SIGTERM, resume_command(self.cfg))
        if len(self.cfg.TEST.EXPECTED_RESULTS) and comm.is_main_process():
            verify_results(self.cfg, self.results)

    def _ask_to_stop(self, number: int) -> None:
        """Request a stop: all processes stop after the same step, a single one stops an evaluation at once."""
        self._signal, self._trainer.stop_wanted = number, True
        # print and logging are not safe in a signal handler.
        os.write(2, b"stopping after this step; a second signal stops at once, without a checkpoint\n")
        if self._evaluation.running and comm.get_world_size() == 1:
            raise Interrupted(in_evaluation=True)

    def _end_interrupted(self, interrupted: Interrupted) -> None:
        """Write the checkpoint of the last complete step.

        Raises:
            Stopped: always.
        """
        if not interrupted.in_evaluation:
            self.iter -= 1  # the step that was not taken does not count
        if self.iter < self.start_iter and not self.start_iter:
            raise Stopped(self._signal or signal.SIGTERM)
        if self.iter >= self.start_iter:
            self._resume.note()
            if comm.is_main_process():
                self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
        raise Stopped(self._signal or signal.SIGTERM, resume_command(self.cfg))

    def before_step(self) -> None:
        """Stop before the step if the run has ended early or was asked to stop."""
        if self._evaluation.finished:
            raise StopTraining
        if self._trainer.stop_agreed or (self._trainer.stop_wanted and comm.get_world_size() == 1):
            raise Interrupted
        normalizer = getattr(self.detector, "loss_normalizer", None)
        self._normalizer = normalizer.clone() if isinstance(normalizer, torch.Tensor) else None
        super().before_step()

    def write_dump(self, batch: list[dict], losses: dict[str, float], norm: float) -> str:
        """Write a dump of a step that diverged, and return a line that says where it is.

        Args:
            batch: of this process.
            losses: by name.
            norm: of the gradients.
        """
        rank = f"_rank{comm.get_rank()}" if comm.get_rank() else ""
        wanted = Path(self.cfg.OUTPUT_DIR) / f"dump_{self.iter + 1:07d}{rank}"
        folder = next(path for path in numbered(wanted) if not path.exists())
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        try:
            write_dump(
                folder,
                cfg=self.cfg,
                model=self.detector,
                batch=batch,
                losses=losses,
                norm=norm,
                rate=rate,
                iteration=self.iter,
                normalizer=self._normalizer,
            )
        except OSError as error:
            return f"the dump of this step could not be written: {verdict(error)[1]}"
        return f"the dump of this step is in {folder}; to run it again: retina debug {folder}"

    def evaluate_now(self) -> dict:
        """Return the metrics on DATASETS.TEST, of the averaged weights if there are any.

        With TEST.VALIDATION_LOSS, the losses on it are included.
        """
        with self.average.applied() if self.average else contextlib.nullcontext():
            results = self.test(self.cfg, self.model) if self.cfg.DATASETS.TEST else {}
            if self.cfg.TEST.VALIDATION_LOSS and self.cfg.DATASETS.TEST and hasattr(self.detector, "label_inputs"):
                losses = validation_losses(self.detector, self.build_validation_loader(self.cfg))
                results = {**results, "validation": losses} if results else results
        self.checkpointer.facts["thresholds"] = thresholds_in(results or {})
        return results

    @classmethod
    def build_model(cls, cfg: CfgNode) -> torch.nn.Module:
        """Build the model, and log one line about its size.

        Raises:
            ValueError: MODEL.DEVICE is not available, no model can be built from the config, or MODEL.FREEZE matches
                none of its parameters.
        """
        return builders.build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer, see :func:`retina_plugin.engine.solver.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:
        """Build the schedule, see :func:`retina_plugin.engine.solver.build_lr_scheduler`."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> SimilarSizeBatches:
        """Check the datasets (DATASETS.ON_PROBLEM) and build the loader of DATASETS.TRAIN.

        See :func:`retina_plugin.data.loader.build_train_loader`.
        """
        return builders.build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        """Build Detectron2's test loader for the scored records of a dataset, with the mapper of INPUT.READER."""
        return builders.build_test_loader(cfg, dataset_name)

    @classmethod
    def test(
        cls, cfg: CfgNode, model: torch.nn.Module, evaluators: list[DatasetEvaluator] | None = None
    ) -> dict[str, Any]:
        """Evaluate a model on DATASETS.TEST, as ``DefaultTrainer`` does; with TEST.TILES or TEST.AUG in several views.

        Args:
            cfg: the config.
            model: with its weights.
            evaluators: one per dataset; None builds TEST.EVALUATOR.

        Returns:
            Nested results on the main process, by dataset if there are several.
        """
        return super().test(
            cfg, builders.with_views(cfg, model, max_detections=cfg.TEST.DETECTIONS_PER_IMAGE), evaluators
        )

    @classmethod
    def build_validation_loader(cls, cfg: CfgNode) -> Iterable:
        """Build a loader of all records of DATASETS.TEST with their boxes, at test size."""
        return builders.build_validation_loader(cfg)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Build TEST.EVALUATOR; by default COCO's box AP, whatever the format of the annotations.

        It writes to OUTPUT_DIR, or for all but the first of several datasets to a folder below with the dataset's name.
        """
        return builders.build_evaluator(cfg, dataset_name)
