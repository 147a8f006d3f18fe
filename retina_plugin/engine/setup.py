"""Prepare a run: its log, its seed, and a record of its config and environment."""

import argparse
import logging
import os
import platform
from pathlib import Path

import cv2
import torch

import detectron2
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng

from retina_plugin.config import dump_config
from retina_plugin.engine.console import Console

logger = logging.getLogger(__name__)


def set_up(
    cfg: CfgNode, *, started_by: str = "", console: Console | None = None, training: bool = True, record: bool = True
) -> Console:
    """Seed, start logging and write the record of a run, as ``train_net.py`` does.

    For a script of your own; call it before you construct the trainer. Python, NumPy and torch are seeded by SEED plus
    the rank of the process. OUTPUT_DIR gets ``log.txt``, ``config.yaml`` and ``environment.txt``, and the console shows
    what ``train_net.py`` shows. OpenCV's threads are switched off; loader processes do not need them.

    Args:
        cfg: from :func:`retina_plugin.load_config`.
        started_by: what started the run, such as the command; for the log.
        console: one that exists already; None creates one and closes that of an earlier call.
        training: whether cuDNN may search for its fastest algorithms (CUDNN_BENCHMARK), which pays over many steps.
        record: write ``config.yaml`` and ``environment.txt``.

    Returns:
        The console; ``close()``, or the end of a ``with`` block around it, restores logging as it was.

    Raises:
        OSError: OUTPUT_DIR cannot be written.
    """
    from retina_plugin import __version__

    folder = Path(cfg.OUTPUT_DIR)
    if comm.is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
    comm.synchronize()
    console = console or Console(comm.get_rank(), instead=True)
    console.write_to(folder)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    logger.info(
        "retina_plugin %s, detectron2 %s, torch %s, Python %s, %s",
        __version__,
        detectron2.__version__,
        torch.__version__,
        platform.python_version(),
        device,
    )
    logger.info("%s -> %s", started_by or "a script of its own", folder)
    seed(cfg)
    cv2.setNumThreads(0)  # the loader processes run in parallel already
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and training and not cfg.DETERMINISTIC
    if record and comm.is_main_process():
        write_record(cfg)
    return console


def command_of(args: argparse.Namespace) -> str:
    """Return the config file and the overrides of a command line, for the log."""
    return " ".join([args.config_file, *(["with", *args.opts] if args.opts else [])])


def seed(cfg: CfgNode) -> None:
    """Seed Python, NumPy and torch by SEED plus the rank of the process, or at random if SEED is negative.

    Also switches torch's deterministic algorithms on or off (DETERMINISTIC).
    """
    if cfg.DETERMINISTIC:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it, before its first use
    torch.use_deterministic_algorithms(cfg.DETERMINISTIC)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())


def write_record(cfg: CfgNode, *, start: int = 0) -> None:
    """Write ``config.yaml`` and ``environment.txt`` to OUTPUT_DIR.

    Args:
        cfg: config of the run.
        start: iteration that a resumed run starts from. If its config was different until then, that is kept under
            the name ``config_until_<start>.yaml``.
    """
    folder, text = Path(cfg.OUTPUT_DIR), dump_config(cfg)
    file = folder / "config.yaml"
    if start and file.is_file() and file.read_text(encoding="utf-8") != text:
        file.replace(folder / f"config_until_{start:07d}.yaml")
    file.write_text(text, encoding="utf-8")
    (folder / "environment.txt").write_text(collect_env_info(), encoding="utf-8")
