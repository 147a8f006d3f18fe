"""Evaluate one model at several image sizes."""

import logging
from pathlib import Path

import torch

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.utils import comm

logger = logging.getLogger(__name__)

LONGER = 4 / 3
"""Ratio of the longest side to the shorter one if INPUT.MIN_SIZE_TEST is 0 and so defines none."""


def at_size(cfg: CfgNode, size: int) -> CfgNode:
    """Return the config for images of a different size.

    Args:
        cfg: the ratio of its INPUT.MAX_SIZE_TEST to its MIN_SIZE_TEST is kept; OUTPUT_DIR becomes its
            subfolder "size_<size>".
        size: shorter side, in pixels.
    """
    cfg = cfg.clone()
    cfg.defrost()
    ratio = cfg.INPUT.MAX_SIZE_TEST / cfg.INPUT.MIN_SIZE_TEST if cfg.INPUT.MIN_SIZE_TEST else LONGER
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = size, max(size, round(size * ratio))
    cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / f"size_{size}")
    cfg.freeze()
    return cfg


def evaluate_sizes(cfg: CfgNode, model: torch.nn.Module, trainer: type[DefaultTrainer]) -> dict[str, dict]:
    """Evaluate at each of TEST.SIZES.

    Args:
        cfg: config of the run.
        model: the detector.
        trainer: its ``test`` is used.

    Returns:
        Results by size on the main process: {"320 px": {"bbox": ...}}, or by size and dataset if there are several.
    """
    found = {}
    for size in cfg.TEST.SIZES:
        other = at_size(cfg, size)
        if comm.is_main_process():
            Path(other.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
        comm.synchronize()
        logger.info("evaluating at %d px (at most %d)", size, other.INPUT.MAX_SIZE_TEST)
        found[f"{size} px"] = trainer.test(other, model)
    return found
