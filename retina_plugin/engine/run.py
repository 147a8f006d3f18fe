"""From command-line arguments to a finished run; what ``train_net.py`` and ``retina quickstart`` call."""

import argparse
import logging
import os
import platform
from pathlib import Path

import cv2
import torch
import torch.distributed as dist

import detectron2
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

import retina_plugin
from retina_plugin.config import dump_config, load_config
from retina_plugin.data.card import DatasetCard, register_card
from retina_plugin.data.detect import write_card
from retina_plugin.data.find import find_card
from retina_plugin.engine.checkpoint import RetinaCheckpointer
from retina_plugin.engine.evaluating import BEST
from retina_plugin.engine.hooks import write_page
from retina_plugin.engine.summary import SUMMARY, write_summary
from retina_plugin.engine.trainer import RetinaTrainer
from retina_plugin.evaluation import write_results

logger = logging.getLogger(__name__)

FINETUNE = Path(__file__).resolve().parents[2] / "configs/finetune.yaml"
"""What ``--data`` trains with unless a config file is given."""

LOGGERS = {"retina_plugin": "retina", "detectron2": "d2", "fvcore": "fvcore"}
"""Loggers that are shown and written to log.txt, and their short names."""


def argument_parser() -> argparse.ArgumentParser:
    """Detectron2's options, and ``--data``."""
    parser = default_argument_parser()
    parser.add_argument("--data", metavar="PATH", help="a folder of images and annotations, or a dataset card: train on it, with configs/finetune.yaml unless --config-file says otherwise")
    parser.add_argument("--data-format", help="coco, voc, yolo, csv or labelme, if the folder has several or it is not recognised")
    return parser


def use_data(args: argparse.Namespace) -> None:
    """Find out what ``args.data`` is, write its card to ``datasets/``, and let ``args`` train on it, in place.

    Raises:
        SystemExit: it is no dataset, with the reason.
    """
    try:
        card = find_card(args.data, format=args.data_format)
        file = card.file if card.file.exists() and DatasetCard.from_file(card.file) == card else write_card(card)
        card = register_card(file)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{args.data}: {card.format}, {len(card.classes)} classes ({', '.join(card.classes[:8])}{', ...' if len(card.classes) > 8 else ''}), splits {', '.join(card.splits)}; card {file}")
    args.config_file, args.card_file = args.config_file or str(FINETUNE), str(file)
    names = {split: f"{card.name}_{split}" for split in card.splits}
    trained = names.get("train") or next(iter(names.values()))
    chosen = ["DATASETS.TRAIN", str((trained,)), "DATASETS.TEST", str((names.get("val") or names.get("test") or trained,)), "OUTPUT_DIR", f"output/{card.name}"]
    if "test" in names and "val" in names:
        chosen += ["DATASETS.FINAL_TEST", str((names["test"],))]
    args.opts = [*chosen, *args.opts]


def run(args: argparse.Namespace) -> None:
    """Train or evaluate on as many processes as asked for; what comes out is in OUTPUT_DIR.

    Args:
        args: from :func:`argument_parser`, or detectron2's ``default_argument_parser``. Under ``torchrun`` its processes are used
            and --num-gpus, --num-machines, --machine-rank, --dist-url are not read.

    Raises:
        FileNotFoundError, ValueError: the config cannot work; see :func:`retina_plugin.load_config`.
        SystemExit: more GPUs are asked for than there are.
    """
    if getattr(args, "data", None):
        use_data(args)
    if "RANK" in os.environ and "LOCAL_WORLD_SIZE" in os.environ:
        _run_under_torchrun(args)
        return
    if args.num_gpus > 1 and torch.cuda.device_count() < args.num_gpus:
        raise SystemExit(f"--num-gpus {args.num_gpus}, but {torch.cuda.device_count()} found here; use torchrun for several CPU processes")
    launch(
        main, args.num_gpus, num_machines=args.num_machines, machine_rank=args.machine_rank, dist_url=args.dist_url, args=(args,)
    )


def _run_under_torchrun(args: argparse.Namespace) -> None:
    """Join the process group that torchrun describes in the environment."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    try:
        main(args)
    finally:
        dist.destroy_process_group()


def main(args: argparse.Namespace) -> None:
    """One process of a run: set up, then train, or evaluate MODEL.WEIGHTS with --eval-only."""
    for name, short in LOGGERS.items():
        setup_logger(distributed_rank=comm.get_rank(), name=name, abbrev_name=short)
    try:
        if card_file := getattr(args, "card_file", None):
            register_card(card_file)  # in a process of its own, nothing is registered yet but what lies in datasets/
        cfg = load_config(args.config_file, args.opts)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    set_up(cfg, args)
    if args.eval_only:
        model = RetinaTrainer.build_model(cfg)
        RetinaCheckpointer(model, cfg.OUTPUT_DIR, cfg=cfg).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        results = RetinaTrainer.test(cfg, model)
        _report(cfg, results)
        return
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    if args.resume:
        _say_what_is_resumed(cfg, trainer)
    trainer.train()
    results = trainer.results or {}
    _report(cfg, results)
    if cfg.DATASETS.FINAL_TEST:
        results = {**results, "final": _final_test(cfg, trainer.model)}
    if comm.is_main_process():
        write_summary(cfg, trainer.detector, results)
        if cfg.TEST.REPORT:
            write_page(cfg.OUTPUT_DIR)


def set_up(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Folder, log file, the resolved config, the environment and the seed of a run."""
    rank, folder = comm.get_rank(), Path(cfg.OUTPUT_DIR)
    if comm.is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
        if not args.resume and not args.eval_only and (folder / "last_checkpoint").exists():
            logger.warning("%s holds an earlier run, which is overwritten; --resume goes on with it", folder)
        if not args.eval_only:
            (folder / SUMMARY).unlink(missing_ok=True)
        (folder / "config.yaml").write_text(dump_config(cfg))
        (folder / "environment.txt").write_text(collect_env_info())
    for name, short in LOGGERS.items():
        setup_logger(str(folder), distributed_rank=rank, name=name, abbrev_name=short, configure_stdout=False)
    logger.info(
        "retina_plugin %s, detectron2 %s, torch %s, Python %s, %s", retina_plugin.__version__, detectron2.__version__,
        torch.__version__, platform.python_version(), torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads",
    )
    logger.info("config %s %s; resolved: %s", args.config_file, " ".join(args.opts), folder / "config.yaml")
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    cv2.setNumThreads(0)  # the loader's processes are the parallelism
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK and not args.eval_only


def _final_test(cfg: CfgNode, model: torch.nn.Module) -> dict:
    """Evaluate the best weights on DATASETS.FINAL_TEST, which training never saw and which chose nothing."""
    best = Path(cfg.OUTPUT_DIR) / f"{BEST}.pth"
    weights = best if best.exists() else Path(cfg.OUTPUT_DIR) / "model_final.pth"
    RetinaCheckpointer(model, cfg=cfg).load(str(weights), checkpointables=[])
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = cfg.DATASETS.FINAL_TEST
    cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / "final_test")
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    logger.info("%s on %s:", weights.name, ", ".join(cfg.DATASETS.FINAL_TEST))
    results = RetinaTrainer.test(cfg, model)
    _report(cfg, results)
    return results


def _say_what_is_resumed(cfg: CfgNode, trainer: RetinaTrainer) -> None:
    if trainer.start_iter:
        logger.info("resumed at iteration %d of %d, learning rate %g", trainer.start_iter, cfg.SOLVER.MAX_ITER, trainer.optimizer.param_groups[0]["lr"])
    else:
        logger.warning("--resume: %s holds no checkpoint, so this is a new run", cfg.OUTPUT_DIR)


def _report(cfg: CfgNode, results: dict | None) -> None:
    """Write the table of the last evaluation."""
    if comm.is_main_process() and results and "bbox" in results:
        table = write_results(results, cfg.OUTPUT_DIR, f"{', '.join(cfg.DATASETS.TEST)}, {cfg.OUTPUT_DIR}")
        logger.info("wrote %s:\n%s", table, table.read_text())
