"""Detectron2's ``DefaultTrainer`` with the plugin's precision, solver, checkpoints and evaluation."""

import logging
import weakref
from collections.abc import Iterable

import torch

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, create_ddp_model
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from detectron2.solver import LRMultiplier

from retina_plugin.data.card import load_datasets
from retina_plugin.data.loader import SimilarSizeBatches, build_train_loader
from retina_plugin.data.mapper import build_mapper
from retina_plugin.engine.checkpoint import RetinaCheckpointer
from retina_plugin.engine.hooks import ExactResume
from retina_plugin.engine.loop import PrecisionTrainer
from retina_plugin.engine.solver import build_lr_scheduler, build_optimizer
from retina_plugin.evaluation import EVALUATORS

logger = logging.getLogger(__name__)


class RetinaTrainer(DefaultTrainer):
    """Trains what a config describes; hooks, writers and loaders are Detectron2's.

    Args:
        cfg: from :func:`retina_plugin.load_config`.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer's constructor knows AMP on CUDA only and its own checkpointer: put together anew.
        TrainerBase.__init__(self)
        self.cfg = cfg
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        logger.info("training on %s in %s", model.device, str(getattr(model, "autocast_dtype", None) or torch.float32).removeprefix("torch."))
        ddp_arguments = {} if model.device.type == "cuda" else {"device_ids": None}
        model = create_ddp_model(model, broadcast_buffers=False, **ddp_arguments)
        self._trainer = PrecisionTrainer(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = RetinaCheckpointer(model, cfg.OUTPUT_DIR, cfg=cfg, trainer=weakref.proxy(self))
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    def build_hooks(self) -> list[HookBase]:
        """Detectron2's, after what makes a resumed run exact."""
        return [ExactResume(self._trainer.data_loader, period=self.cfg.SOLVER.CHECKPOINT_PERIOD, seed=self.cfg.SEED), *super().build_hooks()]

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
        dataset = load_datasets(list(cfg.DATASETS.TRAIN), filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS, on_problem=cfg.DATASETS.ON_PROBLEM)
        return build_train_loader(cfg, dataset, build_mapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        """Detectron2's loader with the mapper of INPUT.READER."""
        return build_detection_test_loader(cfg, dataset_name, mapper=build_mapper(cfg, is_train=False))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """COCO's box AP, whatever the format of the annotations, by the evaluator of TEST.EVALUATOR."""
        return EVALUATORS[cfg.TEST.EVALUATOR](dataset_name, output_dir=cfg.OUTPUT_DIR)
