"""Detectron2's ``DefaultTrainer`` with the plugin's precision, solver, checkpoints and evaluation."""

import contextlib
import logging
import os
import re
import shutil
import signal
import weakref
from collections.abc import Iterable
from pathlib import Path

import torch
from fvcore.nn.precise_bn import get_bn_modules
from torch.nn.parallel import DistributedDataParallel

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator, verify_results
from detectron2.modeling import build_model
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, EventWriter

from retina_plugin.config import INFO_KEY, ready_config
from retina_plugin.config.contradictions import has_own_pyramid
from retina_plugin.data.catalog import load_datasets, result_of
from retina_plugin.data.loader import SimilarSizeBatches, build_test_loader, build_train_loader
from retina_plugin.data.mapper import build_mapper
from retina_plugin.engine.checkpoint import RetinaCheckpointer, class_names
from retina_plugin.engine.dump import write_dump
from retina_plugin.engine.ema import build_average
from retina_plugin.engine.ending import Stopped, verdict
from retina_plugin.engine.evaluation_hook import BEST, Evaluation, StopTraining
from retina_plugin.engine.folder import numbered
from retina_plugin.engine.freezing import FrozenStatistics, freeze_parameters
from retina_plugin.engine.gradients import parameters_without_gradient
from retina_plugin.engine.hooks import (
    Checkpoints,
    ExactResume,
    FreezeBackbone,
    GradientNorms,
    Profile,
    RunPage,
    build_hooks,
)
from retina_plugin.engine.loop import PrecisionTrainer
from retina_plugin.engine.progress import Progress
from retina_plugin.engine.resume import compare, find_checkpoint, mend_metrics, peek, restore_settings, settings_of
from retina_plugin.engine.setup import seed
from retina_plugin.engine.signals import StopOnSignal
from retina_plugin.engine.solver import build_lr_scheduler, build_optimizer
from retina_plugin.engine.validation_loss import validation_losses
from retina_plugin.evaluation import EVALUATOR_REGISTRY
from retina_plugin.modeling.checkpointing import checkpoint_gradients
from retina_plugin.registry import SlotRegistry

logger = logging.getLogger(__name__)

MODEL_FILE = "model.txt"
"""The model, printed, in the folder of a run."""


TRAINER_REGISTRY = SlotRegistry("trainer", "SOLVER.TRAINER", section="SOLVER.TRAINERS")
"""Subclasses of :class:`RetinaTrainer`, constructed with a config."""


class Interrupted(BaseException):
    """Ends the training at the end of a step, or in the evaluation after it, because a signal came."""

    def __init__(self, *, in_evaluation: bool = False) -> None:
        super().__init__()
        self.in_evaluation = in_evaluation


@TRAINER_REGISTRY.register("RetinaTrainer")
class RetinaTrainer(DefaultTrainer):
    """Trains what a config describes; hooks, writers and loaders are Detectron2's.

    Args:
        cfg: from :func:`retina_plugin.load_config`, or made any other way; then it is resolved and checked here.

    Raises:
        ValueError: the config cannot be trained, see :func:`retina_plugin.ready_config`.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer's constructor knows AMP on CUDA only and its own checkpointer: put together anew.
        TrainerBase.__init__(self)
        self.cfg = cfg = ready_config(cfg, training=True)
        self._signal = 0
        if cfg.SEED >= 0 or cfg.DETERMINISTIC:
            seed(cfg)  # two trainers of one config begin with the same weights, whatever happened before
        model = self.build_model(cfg)
        if comm.get_world_size() > 1 and (unused := parameters_without_gradient(model)):
            raise ValueError(
                f"{len(unused)} trained parameters get no gradient ({', '.join(unused[:3])}{', ...' if len(unused) > 3 else ''}), for which several processes would wait: "
                "train on one, or take a network whose every part leads to MODEL.RETINANET.LEVELS"
            )
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        logger.info(
            "training on %s in %s",
            model.device,
            str(getattr(model, "autocast_dtype", None) or torch.float32).removeprefix("torch."),
        )
        ddp_arguments = {} if model.device.type == "cuda" else {"device_ids": None}
        model = create_ddp_model(model, broadcast_buffers=False, **ddp_arguments)
        self._trainer = PrecisionTrainer(model, data_loader, optimizer, accumulate=cfg.SOLVER.ACCUMULATE)
        trainer = weakref.proxy(self)
        self._trainer.explain = lambda batch, losses, norm: trainer.write_dump(batch, losses, norm)
        self._trainer.after_backward = lambda: (
            trainer.after_backward()
        )  # its own hooks are none: Detectron2 loses that call
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.average = build_average(cfg, self.detector)
        self.checkpointer = RetinaCheckpointer(
            model, cfg.OUTPUT_DIR, cfg=cfg, average=self.average, trainer=weakref.proxy(self)
        )
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        if comm.is_main_process():
            Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
        self.register_hooks(self.build_hooks())

    @property
    def detector(self) -> torch.nn.Module:
        """The model, not wrapped for several processes."""
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    @property
    def results(self) -> dict | None:
        """What the last evaluation gave, on the main process."""
        return self._evaluation.results

    def build_hooks(self) -> list[HookBase]:
        """Detectron2's, and the plugin's: what a checkpoint has to hold comes before the checkpoint.

        Order of a step's end: schedule, average of the weights, evaluation, position in the data, SOLVER.HOOKS, checkpoint, log, page, progress.

        Raises:
            TypeError: one of SOLVER.HOOKS makes no hook.
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
        found = [hooks.IterationTimer(), hooks.LRScheduler()]
        if cfg.SOLVER.PROFILE_ITER > 0:
            found.append(Profile(Path(cfg.OUTPUT_DIR) / "trace.json", iteration=cfg.SOLVER.PROFILE_ITER))
        if cfg.MODEL.FREEZE:
            found.append(FrozenStatistics(self.detector))
        if cfg.SOLVER.DETAILS_PERIOD > 0:
            found.append(GradientNorms(self.detector, period=cfg.SOLVER.DETAILS_PERIOD))
        if cfg.SOLVER.FREEZE_ITERS > 0:
            found.append(FreezeBackbone(self.detector.backbone.bottom_up, iterations=cfg.SOLVER.FREEZE_ITERS))
        if self.average:
            found.append(self.average)
        if cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model):
            plain = cfg.clone()
            plain.defrost()
            plain.DATALOADER.NUM_WORKERS = 0
            found.append(
                hooks.PreciseBN(
                    cfg.TEST.EVAL_PERIOD, self.model, self.build_train_loader(plain), cfg.TEST.PRECISE_BN.NUM_ITER
                )
            )
        self._resume = ExactResume(self._trainer.data_loader, period=cfg.SOLVER.CHECKPOINT_PERIOD, seed=cfg.SEED)
        found += [self._evaluation, self._resume, *build_hooks(cfg)]
        if comm.is_main_process():
            writers = self.build_writers()
            found.append(
                Checkpoints(self.checkpointer, period=cfg.SOLVER.CHECKPOINT_PERIOD, kept=cfg.SOLVER.CHECKPOINTS_KEPT)
            )
            found.append(hooks.PeriodicWriter(writers, period=20))
            if cfg.TEST.REPORT:
                found.append(RunPage(cfg, self._evaluation, writers=writers))
            found.append(Progress(images=cfg.SOLVER.IMS_PER_BATCH))
        return found

    def build_writers(self) -> list[EventWriter]:
        """Detectron2's for files; what people read is said by :class:`retina_plugin.engine.progress.Progress`."""
        mend_metrics(Path(self.cfg.OUTPUT_DIR) / "metrics.json")
        return [writer for writer in super().build_writers() if not isinstance(writer, CommonMetricPrinter)]

    def resume_or_load(self, resume: bool = True) -> None:
        """Load MODEL.WEIGHTS, or go on from the last whole checkpoint of OUTPUT_DIR with the learning rate and schedule of the config.

        Raises:
            FileNotFoundError: MODEL.WEIGHTS does not exist.
            ValueError: the weights cannot be read; no checkpoint is whole; or the config has another model or optimizer than the checkpoint.
        """
        file = self._checkpoint_to_resume() if resume else None
        if file is None:
            self.checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
            return
        held = peek(file)
        if "trainer" not in held:
            raise ValueError(
                f"{file} holds weights, but no state of a training that --resume could go on with; MODEL.WEIGHTS {file} begins a new one from them"
            )
        changes = compare(held[INFO_KEY], self.cfg, class_names(self.cfg)) if INFO_KEY in held else []
        del held
        settings, base_lrs = settings_of(self.optimizer), list(getattr(self.scheduler, "base_lrs", []))
        self.checkpointer.load(str(file), complete=True)
        restore_settings(self.optimizer, self.scheduler, settings, base_lrs)
        self.start_iter = self.iter + 1
        if changes:
            logger.info("resumed with other settings than until now: %s", "; ".join(changes))

    def _checkpoint_to_resume(self) -> Path | None:
        """The one that the main process found, on all of them.

        Raises:
            ValueError: no checkpoint is whole.
        """
        found = None
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
        """Write a checkpoint; a resumed run begins from it unless it is the best one."""
        self.checkpointer.save(name, tag=name != BEST, iteration=self.iter)

    def train(self) -> None:
        """Train until SOLVER.MAX_ITER, or until the evaluation says that it gets no better.

        Raises:
            Stopped: SIGINT or SIGTERM came, and a checkpoint was written from which a run with ``resume`` goes on.
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
        if self._trainer.stop_agreed and self._evaluation.pending:  # in the last step, after which nothing asked
            raise Stopped(self._signal or signal.SIGTERM, resume_command(self.cfg))
        if len(self.cfg.TEST.EXPECTED_RESULTS) and comm.is_main_process():
            verify_results(self.cfg, self.results)

    def _ask_to_stop(self, number: int) -> None:
        """A signal came: all processes stop after the same step, and a single one in an evaluation at once."""
        self._signal, self._trainer.stop_wanted = number, True
        # print and logging are not safe in a handler
        os.write(2, b"stopping after this step; once more ends at once, without a checkpoint\n")
        if self._evaluation.running and comm.get_world_size() == 1:
            raise Interrupted(in_evaluation=True)

    def _end_interrupted(self, interrupted: Interrupted) -> None:
        """Write the checkpoint of the last whole step.

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
        """Ends a run that was resumed after it had ended early, or that is to stop."""
        if self._evaluation.finished:
            raise StopTraining
        if self._trainer.stop_agreed or (self._trainer.stop_wanted and comm.get_world_size() == 1):
            raise Interrupted
        normalizer = getattr(self.detector, "loss_normalizer", None)
        self._normalizer = normalizer.clone() if isinstance(normalizer, torch.Tensor) else None
        super().before_step()

    def write_dump(self, batch: list[dict], losses: dict[str, float], norm: float) -> str:
        """Write down a step that diverged; returns a line that says where it is."""
        wanted = Path(self.cfg.OUTPUT_DIR) / (
            f"dump_{self.iter + 1:07d}" + (f"_rank{comm.get_rank()}" if comm.get_rank() else "")
        )
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
            return f"what was met could not be written: {verdict(error)[1]}"
        return f"what was met is in {folder}; this runs the step again: retina debug {folder}"

    def evaluate_now(self) -> dict:
        """Metrics on DATASETS.TEST, of the averaged weights if there are any, and the losses there (TEST.VALIDATION_LOSS)."""
        with self.average.applied() if self.average else contextlib.nullcontext():
            results = self.test(self.cfg, self.model) if self.cfg.DATASETS.TEST else {}
            if self.cfg.TEST.VALIDATION_LOSS and self.cfg.DATASETS.TEST and hasattr(self.detector, "label_inputs"):
                losses = validation_losses(self.detector, self.build_validation_loader(self.cfg))
                results = {**results, "validation": losses} if results else results
        return results

    @classmethod
    def build_model(cls, cfg: CfgNode) -> torch.nn.Module:
        """The model, and one line about its size.

        Raises:
            ValueError: MODEL.DEVICE is not there, the config describes no model, or MODEL.FREEZE no parameters of it.
        """
        check_device(cfg.MODEL.DEVICE)
        model = build_model(cfg)
        freeze_parameters(model, cfg.MODEL.FREEZE)
        if cfg.MODEL.CHECKPOINT_GRADIENTS:
            checkpoint_gradients(getattr(model.backbone, "bottom_up", model.backbone))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in model.parameters())
        below = cfg.MODEL.BOTTOM_UP.NAME if has_own_pyramid(cfg) else cfg.MODEL.BACKBONE.NAME
        logger.info(
            "%s with %s: %.2f M parameters, %.2f M of them trained",
            type(model).__name__,
            below,
            total / 1e6,
            trained / 1e6,
        )
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        """See :func:`retina_plugin.engine.solver.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:
        """See :func:`retina_plugin.engine.solver.build_lr_scheduler`."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> SimilarSizeBatches:
        """See :func:`retina_plugin.data.loader.build_train_loader`; the datasets are checked first (DATASETS.ON_PROBLEM)."""
        dataset = load_datasets(
            list(cfg.DATASETS.TRAIN),
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            on_problem=cfg.DATASETS.ON_PROBLEM,
            empty_share=cfg.DATALOADER.EMPTY_IMAGES,
            seed=cfg.SEED,
            check_images=cfg.DATASETS.CHECK_IMAGES,
            max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS,
        )
        return build_train_loader(cfg, dataset, build_mapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        """Detectron2's loader with the mapper of INPUT.READER, of the records that are scored."""
        return build_test_loader(
            cfg,
            result_of(dataset_name, max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS).records,
            build_mapper(cfg, is_train=False),
        )

    @classmethod
    def build_validation_loader(cls, cfg: CfgNode) -> Iterable:
        """All of DATASETS.TEST at the size of the test, with its boxes."""
        records = [
            record
            for name in cfg.DATASETS.TEST
            for record in result_of(name, max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS).records
        ]
        return build_test_loader(cfg, records, build_mapper(cfg, is_train=False, with_boxes=True))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """The evaluator of TEST.EVALUATOR; COCO's box AP, whatever the format of the annotations, by default."""
        folder = Path(cfg.OUTPUT_DIR) / (
            re.sub(r"[^\w.-]+", "_", dataset_name)
            if len(cfg.DATASETS.TEST) > 1 and dataset_name != cfg.DATASETS.TEST[0]
            else ""
        )
        return EVALUATOR_REGISTRY.build(
            cfg.TEST.EVALUATOR,
            cfg=cfg,
            dataset_name=dataset_name,
            output_dir=str(folder),
            detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
        )


def begin_metrics(folder: Path) -> None:
    """Let a new run begin with an empty ``metrics.json``; what an earlier one left in the folder is kept beside it."""
    file = folder / "metrics.json"
    if not file.is_file() or not file.stat().st_size:
        return
    names = (path.with_name(f"{path.name}.json") for path in numbered(folder / "metrics_earlier"))
    kept = next(path for path in names if not path.exists())
    shutil.copyfile(file, kept)
    os.truncate(file, 0)  # the writer that has it open goes on at its end
    logger.warning("%s held the metrics of an earlier run, which are now in %s", file, kept.name)


def check_device(name: str) -> None:
    """See that a tensor can be put on a device.

    Raises:
        ValueError: it is unknown, or not there.
    """
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        there = [
            "cpu",
            *(f"cuda:{i}" for i in range(torch.cuda.device_count())),
            *(["mps"] if torch.backends.mps.is_available() else []),
        ]
        raise ValueError(f"MODEL.DEVICE is {name!r}, which is not here; there are {', '.join(there)}") from error


def resume_command(cfg: CfgNode) -> str:
    """The command that goes on with a run, for people to copy."""
    return (
        f"python train_net.py --config-file {Path(cfg.OUTPUT_DIR) / 'config.yaml'} --resume OUTPUT_DIR {cfg.OUTPUT_DIR}"
    )
