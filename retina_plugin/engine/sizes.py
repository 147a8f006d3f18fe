"""One model evaluated on images of several sizes."""

import logging
from pathlib import Path

import torch

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.utils import comm

logger = logging.getLogger(__name__)

LONGER = 4 / 3
"""Longest side relative to the shorter, where INPUT.MIN_SIZE_TEST 0 says nothing."""


def at_size(cfg: CfgNode, size: int) -> CfgNode:
    """The config for images of another size.

    Args:
        cfg: with INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST, whose ratio is kept; OUTPUT_DIR gets a folder "size_<size>" below.
        size: of the shorter side, pixels.
    """
    cfg = cfg.clone()
    cfg.defrost()
    ratio = cfg.INPUT.MAX_SIZE_TEST / cfg.INPUT.MIN_SIZE_TEST if cfg.INPUT.MIN_SIZE_TEST else LONGER
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = size, max(size, round(size * ratio))
    cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / f"size_{size}")
    cfg.freeze()
    return cfg


def evaluate_sizes(cfg: CfgNode, model: torch.nn.Module, trainer: type[DefaultTrainer]) -> dict[str, dict]:
    """What an evaluation at each of TEST.SIZES gives, on the main process: {"320 px": {"bbox": ...}}, or by dataset if there are several.

    Args:
        cfg: of the run.
        model: to evaluate.
        trainer: whose ``test`` does.
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
