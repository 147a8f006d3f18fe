"""What a run needs before it begins: a log, a seed, and a record of what it is."""

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
    """Seed, log and write down what runs, as ``train_net.py`` does; for a script of one's own, before it makes its trainer.

    Python, NumPy and torch are seeded by SEED (and the number of the process); OUTPUT_DIR gets ``log.txt``, ``config.yaml`` and
    ``environment.txt``; the console shows what ``train_net.py`` shows; OpenCV is kept from threads of its own, which loaders do not need.

    Args:
        cfg: from :func:`retina_plugin.load_config`.
        started_by: for the log, such as the command.
        console: that is there already; None makes one, and ends that of an earlier call.
        training: whether cuDNN may look for its fastest algorithms (CUDNN_BENCHMARK), which pays for many steps only.
        record: write ``config.yaml`` and ``environment.txt``.

    Returns:
        The console; ``close()`` leaves logging as it was, and so does a ``with`` around what runs.

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
    cv2.setNumThreads(0)  # the loader's processes are the parallelism
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and training and not cfg.DETERMINISTIC
    if record and comm.is_main_process():
        write_record(cfg)
    return console


def seed(cfg: CfgNode) -> None:
    """Seed Python, NumPy and torch by SEED and the number of the process; with a negative SEED by nothing that can be repeated.

    DETERMINISTIC is set for torch, on or off.
    """
    if cfg.DETERMINISTIC:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first use
    torch.use_deterministic_algorithms(cfg.DETERMINISTIC)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + comm.get_rank())


def write_record(cfg: CfgNode, *, start: int = 0) -> None:
    """Write ``config.yaml`` and ``environment.txt``; the config that trained until iteration ``start`` is kept beside."""
    folder, text = Path(cfg.OUTPUT_DIR), dump_config(cfg)
    file = folder / "config.yaml"
    if start and file.is_file() and file.read_text(encoding="utf-8") != text:
        file.replace(folder / f"config_until_{start:07d}.yaml")
    file.write_text(text, encoding="utf-8")
    (folder / "environment.txt").write_text(collect_env_info(), encoding="utf-8")
