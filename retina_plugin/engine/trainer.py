"""Detectron2's ``DefaultTrainer`` with the plugin's precision, solver, checkpoints and evaluation."""

import contextlib
import logging
import weakref
from collections.abc import Iterable
from pathlib import Path

import torch
from fvcore.nn.precise_bn import get_bn_modules
from torch.nn.parallel import DistributedDataParallel

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import DatasetEvaluator, verify_results
from detectron2.modeling import build_model
from detectron2.solver import LRMultiplier
from detectron2.utils import comm

from retina_plugin.config import ready_config
from retina_plugin.data.catalog import load_datasets, result_of
from retina_plugin.data.loader import SimilarSizeBatches, build_train_loader
from retina_plugin.data.mapper import build_mapper
from retina_plugin.engine.checkpoint import RetinaCheckpointer
from retina_plugin.engine.ema import WeightAverage
from retina_plugin.engine.evaluating import BEST, Evaluation, StopTraining
from retina_plugin.engine.hooks import ExactResume, FreezeBackbone, RunPage
from retina_plugin.engine.loop import PrecisionTrainer
from retina_plugin.engine.solver import build_lr_scheduler, build_optimizer
from retina_plugin.engine.validation import validation_losses
from retina_plugin.evaluation import EVALUATORS

logger = logging.getLogger(__name__)


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
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        logger.info("training on %s in %s", model.device, str(getattr(model, "autocast_dtype", None) or torch.float32).removeprefix("torch."))
        ddp_arguments = {} if model.device.type == "cuda" else {"device_ids": None}
        model = create_ddp_model(model, broadcast_buffers=False, **ddp_arguments)
        self._trainer = PrecisionTrainer(model, data_loader, optimizer, accumulate=cfg.SOLVER.ACCUMULATE)
        trainer = weakref.proxy(self)
        self._trainer.after_backward = lambda: trainer.after_backward()  # its own hooks are none: Detectron2 loses that call
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.average = WeightAverage(self.detector, decay=cfg.SOLVER.EMA_DECAY) if cfg.SOLVER.EMA_DECAY > 0 else None
        self.checkpointer = RetinaCheckpointer(model, cfg.OUTPUT_DIR, cfg=cfg, average=self.average, trainer=weakref.proxy(self))
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
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

        Order of a step's end: schedule, average of the weights, evaluation, position in the data, checkpoint, log, page.
        """
        cfg, trainer = self.cfg, weakref.proxy(self)  # hooks and trainer must not own each other
        self._evaluation = Evaluation(
            period=cfg.TEST.EVAL_PERIOD, evaluate=lambda: trainer.evaluate_now(), save=lambda name: trainer.save_beside(name),
            metric=cfg.TEST.BEST_METRIC if cfg.DATASETS.TEST and cfg.TEST.EVAL_PERIOD > 0 else "", patience=cfg.TEST.EARLY_STOP_PATIENCE,
        )  # fmt: skip
        found = [hooks.IterationTimer(), hooks.LRScheduler()]
        if cfg.SOLVER.FREEZE_ITERS > 0:
            found.append(FreezeBackbone(self.detector.backbone.bottom_up, iterations=cfg.SOLVER.FREEZE_ITERS))
        if self.average:
            found.append(self.average)
        if cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model):
            plain = cfg.clone()
            plain.defrost()
            plain.DATALOADER.NUM_WORKERS = 0
            found.append(hooks.PreciseBN(cfg.TEST.EVAL_PERIOD, self.model, self.build_train_loader(plain), cfg.TEST.PRECISE_BN.NUM_ITER))
        found += [self._evaluation, ExactResume(self._trainer.data_loader, period=cfg.SOLVER.CHECKPOINT_PERIOD, seed=cfg.SEED)]
        if comm.is_main_process():
            writers = self.build_writers()
            kept = cfg.SOLVER.CHECKPOINTS_KEPT or None
            found += [hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=kept), hooks.PeriodicWriter(writers, period=20)]
            if cfg.TEST.REPORT:
                found.append(RunPage(cfg, self._evaluation, writers=writers))
        return found

    def save_beside(self, name: str) -> None:
        """Write a checkpoint; a resumed run begins from it unless it is the best one."""
        self.checkpointer.save(name, tag=name != BEST, iteration=self.iter)

    def train(self) -> None:
        """Train until SOLVER.MAX_ITER, or until the evaluation says that it gets no better."""
        try:
            TrainerBase.train(self, self.start_iter, self.max_iter)
        except StopTraining:
            self.iter -= 1  # of the step that did not happen any more
            if comm.is_main_process():
                self.checkpointer.save("model_final", iteration=self.iter)
        if len(self.cfg.TEST.EXPECTED_RESULTS) and comm.is_main_process():
            verify_results(self.cfg, self.results)

    def before_step(self) -> None:
        """Ends a run that was resumed after it had ended early."""
        if self._evaluation.finished:
            raise StopTraining
        super().before_step()

    def evaluate_now(self) -> dict:
        """Metrics on DATASETS.TEST, of the averaged weights if there are any, and the losses there (TEST.VALIDATION_LOSS)."""
        with self.average.applied() if self.average else contextlib.nullcontext():
            results = self.test(self.cfg, self.model) if self.cfg.DATASETS.TEST else {}
            if self.cfg.TEST.VALIDATION_LOSS and self.cfg.DATASETS.TEST:
                losses = validation_losses(self.detector, self.build_validation_loader(self.cfg))
                results = {**results, "validation": losses} if results else results
        return results

    @classmethod
    def build_model(cls, cfg: CfgNode) -> torch.nn.Module:
        """The model, and one line about its size."""
        model = build_model(cfg)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in model.parameters())
        logger.info("%s with %s: %.2f M parameters, %.2f M of them trained", type(model).__name__, cfg.MODEL.BOTTOM_UP.NAME, total / 1e6, trained / 1e6)
        logger.debug("%s", model)
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
            list(cfg.DATASETS.TRAIN), filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS, on_problem=cfg.DATASETS.ON_PROBLEM,
            empty_share=cfg.DATALOADER.EMPTY_IMAGES, seed=cfg.SEED, check_images=cfg.DATASETS.CHECK_IMAGES,
        )  # fmt: skip
        return build_train_loader(cfg, dataset, build_mapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        """Detectron2's loader with the mapper of INPUT.READER, of the records that are scored."""
        return build_detection_test_loader(dataset=result_of(dataset_name).records, mapper=build_mapper(cfg, is_train=False), num_workers=cfg.DATALOADER.NUM_WORKERS)

    @classmethod
    def build_validation_loader(cls, cfg: CfgNode) -> Iterable:
        """All of DATASETS.TEST at the size of the test, with its boxes."""
        records = [record for name in cfg.DATASETS.TEST for record in result_of(name).records]
        return build_detection_test_loader(dataset=records, mapper=build_mapper(cfg, is_train=False, with_boxes=True), num_workers=cfg.DATALOADER.NUM_WORKERS)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """COCO's box AP, whatever the format of the annotations, by the evaluator of TEST.EVALUATOR."""
        folder = Path(cfg.OUTPUT_DIR) / (dataset_name if len(cfg.DATASETS.TEST) > 1 and dataset_name != cfg.DATASETS.TEST[0] else "")
        return EVALUATORS[cfg.TEST.EVALUATOR](dataset_name, output_dir=str(folder), detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE)
