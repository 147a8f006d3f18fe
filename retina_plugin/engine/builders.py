"""Build from a config what a trainer works with: the model, the loaders, the evaluator."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import nn

from detectron2 import modeling
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator

from retina_plugin.config.contradictions import has_own_pyramid
from retina_plugin.data import loader
from retina_plugin.data.catalog import load_datasets, result_of
from retina_plugin.data.image_views import ViewMapper, Views
from retina_plugin.data.loader import SimilarSizeBatches
from retina_plugin.data.mapper import build_mapper
from retina_plugin.engine.device import check_device
from retina_plugin.engine.freezing import freeze_parameters
from retina_plugin.evaluation import EVALUATOR_REGISTRY
from retina_plugin.modeling.checkpointing import checkpoint_gradients
from retina_plugin.modeling.multi_view import MultiViewModel

logger = logging.getLogger(__name__)


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model, freeze parameters of MODEL.FREEZE, and log one line about its size.

    Raises:
        ValueError: MODEL.DEVICE is not available, no model can be built from the config, or MODEL.FREEZE matches none
            of its parameters.
    """
    check_device(cfg.MODEL.DEVICE)
    model = modeling.build_model(cfg)
    freeze_parameters(model, cfg.MODEL.FREEZE)
    if cfg.MODEL.CHECKPOINT_GRADIENTS:
        checkpoint_gradients(getattr(model.backbone, "bottom_up", model.backbone))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    network = cfg.MODEL.BOTTOM_UP.NAME if has_own_pyramid(cfg) else cfg.MODEL.BACKBONE.NAME
    name = type(model).__name__
    logger.info("%s with %s: %.2f M parameters, %.2f M of them trained", name, network, total / 1e6, trained / 1e6)
    return model


def build_train_loader(cfg: CfgNode) -> SimilarSizeBatches:
    """Check the datasets (DATASETS.ON_PROBLEM) and build the loader of DATASETS.TRAIN."""
    dataset = load_datasets(
        list(cfg.DATASETS.TRAIN),
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        on_problem=cfg.DATASETS.ON_PROBLEM,
        empty_share=cfg.DATALOADER.EMPTY_IMAGES,
        seed=cfg.SEED,
        check_images=cfg.DATASETS.CHECK_IMAGES,
        max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS,
    )
    batches = loader.build_train_loader(cfg, dataset, build_mapper(cfg, is_train=True))
    batches.image_size = median_image_size(dataset)
    return batches


def median_image_size(records: list[dict]) -> list[int] | None:
    """Return the median height and width of images, pixels; None if their sizes are unknown."""
    sizes = [(x["height"], x["width"]) for x in records if "height" in x and "width" in x]
    return [int(side) for side in np.median(sizes, axis=0)] if sizes else None


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Iterable:
    """Build Detectron2's test loader for the scored records of a dataset, with the mapper of INPUT.READER.

    With TEST.TILES or TEST.AUG it yields the views of each image.
    """
    records = result_of(dataset_name, max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS).records
    views = Views.from_config(cfg)
    mapper = ViewMapper.from_config(cfg, views) if views else build_mapper(cfg, is_train=False)
    return loader.build_test_loader(cfg, records, mapper)


def with_views(cfg: CfgNode, model: nn.Module, *, max_detections: int | None) -> nn.Module:
    """Return a model that detects in the views that TEST.TILES and TEST.AUG ask for; the model itself if in none."""
    if Views.from_config(cfg) is None:
        return model
    node = cfg.MODEL.RETINANET
    return MultiViewModel(
        model,
        nms_thresh=node.NMS_THRESH_TEST,
        max_detections=max_detections,
        class_agnostic=node.CLASS_AGNOSTIC_NMS,
        soft=node.SOFT_NMS,
        soft_sigma=node.SOFT_NMS_SIGMA,
        score_thresh=node.SCORE_THRESH_TEST,
    )


def build_validation_loader(cfg: CfgNode) -> Iterable:
    """Build a loader of all records of DATASETS.TEST with their boxes, at test size."""
    results = [result_of(name, max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS) for name in cfg.DATASETS.TEST]
    records = [record for result in results for record in result.records]
    return loader.build_test_loader(cfg, records, build_mapper(cfg, is_train=False, with_boxes=True))


def dataset_folder(cfg: CfgNode, dataset_name: str) -> Path:
    """Return the folder for the results on a dataset: OUTPUT_DIR, or one below for all but the first of several."""
    folder = Path(cfg.OUTPUT_DIR)
    if len(cfg.DATASETS.TEST) > 1 and dataset_name in cfg.DATASETS.TEST[1:]:
        folder /= re.sub(r"[^\w.-]+", "_", dataset_name)
    return folder


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
    """Build TEST.EVALUATOR; by default COCO's box AP, whatever the format of the annotations.

    It writes to the :func:`dataset_folder`.
    """
    return EVALUATOR_REGISTRY.build(
        cfg.TEST.EVALUATOR,
        cfg=cfg,
        dataset_name=dataset_name,
        output_dir=str(dataset_folder(cfg, dataset_name)),
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
    )
