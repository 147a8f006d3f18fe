"""Run a training or an evaluation from command-line arguments.

This is what ``train_net.py``, ``retina train``, ``retina evaluate`` and ``retina quickstart`` call.
"""

import argparse
import contextlib
import copy
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessExitedException

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, default_argument_parser, launch
from detectron2.utils import comm

from retina_plugin.arguments import argument_parser, check_arguments, options_of_short_forms
from retina_plugin.config import config_from_text, import_modules, load_config
from retina_plugin.config.checkpoint_info import SAFETENSORS
from retina_plugin.config.files import Setting, read_settings
from retina_plugin.config.load import modules_of
from retina_plugin.data.card import RUN_CARD
from retina_plugin.data.catalog import register_card
from retina_plugin.engine.checkpoint import read_info
from retina_plugin.engine.console import Console, say
from retina_plugin.engine.data_argument import use_data
from retina_plugin.engine.ending import ProcessEnded, Stopped, exit_code, starting
from retina_plugin.engine.evaluate import evaluate, final_test, report
from retina_plugin.engine.evaluation_hook import BEST
from retina_plugin.engine.folder import claimed, with_output_dir
from retina_plugin.engine.hooks import write_page
from retina_plugin.engine.setup import command_of, set_up, write_record
from retina_plugin.engine.signals import StopOnSignal
from retina_plugin.engine.sizes import evaluate_sizes
from retina_plugin.engine.summary import SUMMARY, write_summary
from retina_plugin.engine.trainer import TRAINER_REGISTRY
from retina_plugin.plan.plan import FILE as PLAN
from retina_plugin.report.run_page import ACCOUNT

__all__ = ["argument_parser", "main", "run"]

logger = logging.getLogger(__name__)


def import_of(args: argparse.Namespace) -> list[str]:
    """Import the modules of ``--import`` and of the config's IMPORTS, which reading the data may need.

    Returns:
        The key IMPORTS and its value with all of these modules, for ``opts``; empty without ``--import``.

    Raises:
        ImportError: one cannot be imported.
    """
    asked = list(getattr(args, "imports", None) or [])
    settings = read_settings(args.config_file) if args.config_file and not _is_checkpoint(args.config_file) else {}
    settings |= {key: Setting(value, "") for key, value in zip(args.opts[0::2], args.opts[1::2], strict=False)}
    modules = tuple(dict.fromkeys([*modules_of(settings), *asked]))
    import_modules(modules, asked_by="--import" if asked else "IMPORTS")
    return ["IMPORTS", str(modules)] if asked else []


def run(args: argparse.Namespace, *, trainer: type[DefaultTrainer] | None = None) -> Path | None:
    """Train or evaluate, on as many processes as asked for.

    Args:
        args: from :func:`argument_parser`, or detectron2's ``default_argument_parser``. Under ``torchrun``, its
            processes are used, and --num-gpus, --num-machines, --machine-rank and --dist-url are not read.
        trainer: class that trains, usually a subclass of ``RetinaTrainer``; None: SOLVER.TRAINER.

    Returns:
        The folder with the results: OUTPUT_DIR, or the next free number if OUTPUT_DIR was not given on the command line
        and holds an earlier run. None if other processes did the work.

    Raises:
        FileNotFoundError, ValueError: the arguments or the config cannot work; see :func:`retina_plugin.load_config`.
        OSError: a file cannot be read or written.
        TrainingDiverged: losses or gradients are not finite.
        Stopped: the process received SIGINT or SIGTERM.
        ProcessEnded: one of several processes failed, and has reported why.
    """
    args = copy.copy(args)
    check_arguments(args)
    args.opts = [*options_of_short_forms(args), *map(str, args.opts or [])]
    args.folder_named = "OUTPUT_DIR" in args.opts[0::2]
    args.opts += import_of(args)
    if getattr(args, "data", None):
        say(use_data(args))
    elif _is_checkpoint(args.config_file) and (card := Path(args.config_file).parent / RUN_CARD).is_file():
        args.card_file = str(card)  # of the run that wrote the checkpoint
        if (account := card.with_name(ACCOUNT)).is_file():
            args.account = account.read_text(encoding="utf-8").rstrip("\n")
    if "RANK" in os.environ and "LOCAL_WORLD_SIZE" in os.environ:
        return _run_under_torchrun(args, trainer)
    if args.num_gpus > 1 and torch.cuda.device_count() < args.num_gpus:
        raise ValueError(
            f"--num-gpus {args.num_gpus}, but {torch.cuda.device_count()} found here; use torchrun to run several "
            "processes on the CPU"
        )
    if args.num_gpus * args.num_machines <= 1:
        return main(args, trainer)
    try:
        launch(
            _child,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url or default_argument_parser().parse_args([]).dist_url,
            args=(args, trainer),
        )
    except ProcessExitedException as error:
        raise ProcessEnded(error.exit_code) from error
    return None


def _child(args: argparse.Namespace, trainer: type[DefaultTrainer] | None) -> None:
    """Run one of several processes, which reports its own error."""
    if code := exit_code(lambda: main(args, trainer)):
        sys.exit(code)


def _run_under_torchrun(args: argparse.Namespace, trainer: type[DefaultTrainer] | None) -> Path:
    """Join the process group that torchrun describes in the environment, then run."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    try:
        return main(args, trainer)
    finally:
        dist.destroy_process_group()


def main(args: argparse.Namespace, trainer: type[DefaultTrainer] | None = None) -> Path:
    """Run one process: set up, then train, or evaluate MODEL.WEIGHTS with --eval-only.

    Args:
        args: see :func:`run`, which adds to them.
        trainer: class that trains; None: SOLVER.TRAINER.

    Returns:
        The folder with the results.
    """
    console = Console(comm.get_rank())
    try:
        with StopOnSignal(_stop_before_training):
            with starting():
                # A spawned process has imported and registered nothing but the cards in datasets/.
                import_modules(getattr(args, "imports", None) or [], asked_by="--import")
                if card_file := getattr(args, "card_file", None):
                    register_card(card_file, replace=True)
                cfg = _config(args)
                trainer = trainer or TRAINER_REGISTRY.get(cfg.SOLVER.TRAINER)
            if args.eval_only:
                return evaluate(cfg, args, trainer, console)
            with _own_folder(cfg, args) as cfg:
                return _train(cfg, args, trainer, console)
    except Exception as error:
        logger.debug("ended by %s", type(error).__name__, exc_info=True)
        error.log_file = console.file  # type: ignore[attr-defined]  # a note for exit_code, whatever the error's class
        raise
    finally:
        if comm.is_main_process() and (again := console.problems.again()):
            say(again, flush=True)
        console.close()


def _config(args: argparse.Namespace) -> CfgNode:
    """Load the config from a file, or from the checkpoint that contains one."""
    if not _is_checkpoint(args.config_file):
        return load_config(args.config_file, args.opts)
    return config_from_text(read_info(args.config_file)["config"], args.opts, source=args.config_file)


def _is_checkpoint(file: str) -> bool:
    return Path(file).suffix in (".pth", SAFETENSORS)


def _stop_before_training(number: int) -> None:
    raise Stopped(number)


@contextlib.contextmanager
def _own_folder(cfg: CfgNode, args: argparse.Namespace) -> Iterator[CfgNode]:
    """Lock the folder that this run may write to, and yield the config with that folder as OUTPUT_DIR."""
    with contextlib.ExitStack() as stack:
        found: Path | Exception | None = None
        if comm.is_main_process():
            folder = claimed(
                Path(cfg.OUTPUT_DIR),
                named=getattr(args, "folder_named", True),
                resume=args.resume,
                overwrite=getattr(args, "overwrite", False),
            )
            try:
                found = stack.enter_context(folder)
            except (ValueError, OSError) as error:
                found = error
        found = comm.all_gather(found)[0]
        if isinstance(found, Exception):
            raise found
        assert found is not None, "the main process has either a folder or an error"
        yield with_output_dir(cfg, found)


def _train(cfg: CfgNode, args: argparse.Namespace, trainer: type[DefaultTrainer], console: Console) -> Path:
    """Train, evaluate, and write the summary and the page of the run; return its folder."""
    folder = Path(cfg.OUTPUT_DIR)
    set_up(cfg, started_by=command_of(args), console=console, record=False)
    with starting():
        run = trainer(cfg)
        run.resume_or_load(resume=args.resume)
    if comm.is_main_process():
        (folder / SUMMARY).unlink(missing_ok=True)
        write_record(cfg, start=run.start_iter)
        _keep_dataset_card(args, folder)
    if args.resume:
        _log_resumed(cfg, run)
    run.train()
    results = getattr(run, "results", None) or {}
    if cfg.TEST.SIZES:
        average = getattr(run, "average", None)
        with average.applied() if average else contextlib.nullcontext():
            results = {**results, **evaluate_sizes(cfg, run.model, trainer)}
    report(cfg, results)
    if cfg.DATASETS.FINAL_TEST:
        results = {**results, "final": final_test(cfg, run.model, trainer)}
    if comm.is_main_process():
        write_summary(cfg, getattr(run, "detector", run.model), results)
        if cfg.TEST.REPORT:
            write_page(cfg.OUTPUT_DIR)
        files = [name for name in (f"{BEST}.pth", "model_final.pth", "report.html") if (folder / name).is_file()]
        logger.info("finished; %s has %s", folder, ", ".join(files))
    return folder


def _keep_dataset_card(args: argparse.Namespace, folder: Path) -> None:
    """Copy the dataset card and the summary of the data, if there are any, into the folder of a run."""
    card_file = getattr(args, "card_file", None)
    if (
        card_file and Path(card_file).resolve() != (folder / RUN_CARD).resolve()
    ):  # the same file when a checkpoint resumes
        shutil.copyfile(card_file, folder / RUN_CARD)
    if account := getattr(args, "account", None):
        (folder / ACCOUNT).write_text(account + "\n", encoding="utf-8")
    if plan := getattr(args, "plan", None):
        (folder / PLAN).write_text(plan, encoding="utf-8")


def _log_resumed(cfg: CfgNode, trainer: DefaultTrainer) -> None:
    """Log from where a run continues, or warn that it starts from the beginning."""
    if trainer.start_iter:
        logger.info(
            "resumed at iteration %d of %d, learning rate %g",
            trainer.start_iter,
            cfg.SOLVER.MAX_ITER,
            trainer.optimizer.param_groups[0]["lr"],
        )
    else:
        logger.warning("--resume: %s holds no checkpoint, so this is a new run", cfg.OUTPUT_DIR)
