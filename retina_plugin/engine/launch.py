"""From command-line arguments to a finished run; what ``train_net.py`` and ``retina quickstart`` call."""

import argparse
import contextlib
import copy
import dataclasses
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
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from retina_plugin.config import INFO_KEY, config_from_text, dump_config, import_modules, load_config
from retina_plugin.config.check import refuse
from retina_plugin.config.contradictions import unknown_datasets
from retina_plugin.config.files import Setting, read_settings
from retina_plugin.config.load import modules_of
from retina_plugin.data.account import account_of
from retina_plugin.data.card import DatasetCard
from retina_plugin.data.catalog import FOUND, has_object, register_card
from retina_plugin.data.discover import find_card, write_card
from retina_plugin.data.load import LoadResult, load_split
from retina_plugin.data.pixels import pixel_range_of
from retina_plugin.arguments import argument_parser, check_arguments, options_of_short_forms
from retina_plugin.engine.checkpoint import RetinaCheckpointer, class_names, read_info
from retina_plugin.engine.console import Console
from retina_plugin.engine.ending import ProcessEnded, StartError, Stopped, exit_code, message
from retina_plugin.engine.evaluation_hook import BEST, figures
from retina_plugin.engine.folder import claimed, evaluation_folder, latest_run
from retina_plugin.engine.hooks import write_page
from retina_plugin.engine.resume import find_checkpoint
from retina_plugin.engine.setup import set_up, write_record
from retina_plugin.engine.signals import StopOnSignal
from retina_plugin.engine.sizes import evaluate_sizes
from retina_plugin.engine.summary import SUMMARY, write_summary
from retina_plugin.engine.trainer import TRAINER_REGISTRY
from retina_plugin.evaluation import write_results
from retina_plugin.paths import shipped
from retina_plugin.report.run_page import ACCOUNT

__all__ = ["argument_parser", "main", "run"]

CARD = "dataset.yaml"
"""In the folder of a run on data that --data found: its card."""

logger = logging.getLogger(__name__)

FINETUNE = "configs/finetune.yaml"
"""What ``--data`` trains with unless a config file is given."""


def import_of(args: argparse.Namespace) -> list[str]:
    """Import the modules of ``--import`` and of the config's IMPORTS, which data may need, too; returns the KEY VALUE that keeps them all.

    Raises:
        ImportError: one cannot be imported.
    """
    asked = list(getattr(args, "imports", None) or [])
    settings = read_settings(args.config_file) if args.config_file and not _is_checkpoint(args.config_file) else {}
    settings |= {key: Setting(value, "") for key, value in zip(args.opts[0::2], args.opts[1::2], strict=False)}
    modules = tuple(dict.fromkeys([*modules_of(settings), *asked]))
    import_modules(modules, asked_by="--import" if asked else "IMPORTS")
    return ["IMPORTS", str(modules)] if asked else []


def use_data(args: argparse.Namespace) -> None:
    """Find out what ``args.data`` is, print what is used of it, and let ``args`` train on it, in place.

    A dataset without a card gets one in ``datasets/found/``, which is rewritten each time.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: it is no dataset, or there is nothing to train on or to validate on.
        OSError: the card cannot be written.
    """
    card, changes = find_card(args.data, format=args.data_format), []
    found = not card.file.exists() or card.file.parent.name == FOUND
    file = card.file
    try:
        if found:
            file, changes = write_card(card, Path("datasets") / FOUND)
        card = register_card(file, replace=found)
        results = {split: load_split(card, split, look=False) for split in card.splits}
        card = _with_value_range(card, results)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OSError(f"the card of {args.data} cannot be written: {error}") from error
    for split in ("train", "val"):
        if split in results and not any(has_object(record) for record in results[split].records):
            raise ValueError(
                f"{args.data}: nothing of {split} can be used: {len(results[split].records)} images, none with a box "
                f"that is no crowd; `retina data check {args.data}` says why"
            )
    args.account = account_of(card, results).text()
    print(f"{args.data}: {card.format}, card {file}\n{args.account}")
    for change in changes:
        print(f"changed since {file} was written: {change}")
    problems = sum(len(result.problems) for result in results.values())
    if problems:
        print(f"{problems} problems; `retina data check {args.data}` lists them")
    args.config_file, args.card_file = args.config_file or str(shipped(FINETUNE)), str(file)
    names = {split: f"{card.name}_{split}" for split in card.splits}
    trained = names.get("train") or next(iter(names.values()))
    chosen = [
        "DATASETS.TRAIN",
        str((trained,)),
        "DATASETS.TEST",
        str((names.get("val") or names.get("test") or trained,)),
        "OUTPUT_DIR",
        f"output/{card.name}",
    ]
    if "test" in names and "val" in names:
        chosen += ["DATASETS.FINAL_TEST", str((names["test"],))]
    if card.value_range is not None:
        low, high = card.value_range
        print(
            f"images with more than 8 bits: values {low:g} to {high:g} of the whole data set become 0 to 255 (INPUT.VALUE_RANGE)"
        )
        chosen += ["INPUT.VALUE_RANGE", str((float(low), float(high)))]
    args.opts = [*chosen, *args.opts]


def _with_value_range(card: DatasetCard, results: dict[str, LoadResult]) -> DatasetCard:
    """The card with the range of its images of more than 8 bits, found once for the data set and written to it; the same card if it has none."""
    files = [record["file_name"] for result in results.values() for record in result.records]
    if card.value_range is not None or (found := pixel_range_of(files)) is None:
        return card
    card = dataclasses.replace(card, value_range=(float(found.low), float(found.high)))
    if card.file.parent.name == FOUND:
        card.file.write_text(
            f"# Found by retina_plugin, and written anew whenever it looks; copy it elsewhere to edit it.\n{card.text()}",
            encoding="utf-8",
        )
    return card


def run(args: argparse.Namespace, *, trainer: type[DefaultTrainer] | None = None) -> Path | None:
    """Train or evaluate on as many processes as asked for.

    Args:
        args: from :func:`argument_parser`, or detectron2's ``default_argument_parser``. Under ``torchrun`` its processes are used
            and --num-gpus, --num-machines, --machine-rank, --dist-url are not read.
        trainer: what trains, a subclass of ``RetinaTrainer`` as a rule; None: SOLVER.TRAINER.

    Returns:
        The folder with what came out: OUTPUT_DIR, or the next number where an earlier run is in a folder that was not named on
        the command line. None if other processes did the work.

    Raises:
        FileNotFoundError, ValueError: the arguments or the config cannot work; see :func:`retina_plugin.load_config`.
        OSError: a file cannot be read or written.
        TrainingDiverged: losses or gradients are not finite.
        Stopped: SIGINT or SIGTERM came.
        ProcessEnded: one of several processes failed, and has said why.
    """
    args = copy.copy(args)
    check_arguments(args)
    args.opts = [*options_of_short_forms(args), *map(str, args.opts or [])]
    args.folder_named = "OUTPUT_DIR" in args.opts[0::2]
    args.opts += import_of(args)
    if getattr(args, "data", None):
        use_data(args)
    elif _is_checkpoint(args.config_file) and (card := Path(args.config_file).parent / CARD).is_file():
        args.card_file = str(card)  # of the run that wrote the checkpoint
    if "RANK" in os.environ and "LOCAL_WORLD_SIZE" in os.environ:
        return _run_under_torchrun(args, trainer)
    if args.num_gpus > 1 and torch.cuda.device_count() < args.num_gpus:
        raise ValueError(
            f"--num-gpus {args.num_gpus}, but {torch.cuda.device_count()} found here; use torchrun for several CPU processes"
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
    """One of several processes, which says itself what went wrong."""
    if code := exit_code(lambda: main(args, trainer) and 0):
        sys.exit(code)


def _run_under_torchrun(args: argparse.Namespace, trainer: type[DefaultTrainer] | None) -> Path:
    """Join the process group that torchrun describes in the environment."""
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
    """One process of a run: set up, then train, or evaluate MODEL.WEIGHTS with --eval-only; returns the folder."""
    console = Console(comm.get_rank())
    try:
        with StopOnSignal(_stop_before_training):
            with _starting():
                # In a process of its own, nothing is imported or registered yet but the cards in datasets/.
                import_modules(getattr(args, "imports", None) or [], asked_by="--import")
                if card_file := getattr(args, "card_file", None):
                    register_card(card_file, replace=True)
                cfg = _config(args)
                trainer = trainer or TRAINER_REGISTRY.get(cfg.SOLVER.TRAINER)
            if args.eval_only:
                return _evaluate(cfg, args, trainer, console)
            with _own_folder(cfg, args) as cfg:
                return _train(cfg, args, trainer, console)
    except Exception as error:
        logger.debug("ended by %s", type(error).__name__, exc_info=True)
        error.log_file = console.file
        raise
    finally:
        if comm.is_main_process() and (again := console.problems.again()):
            print(again, flush=True)
        console.close()


def _config(args: argparse.Namespace) -> CfgNode:
    """Load the config: from a file, or the one that a checkpoint holds."""
    if not _is_checkpoint(args.config_file):
        return load_config(args.config_file, args.opts)
    return config_from_text(read_info(args.config_file)["config"], args.opts, source=args.config_file)


def _is_checkpoint(file: str) -> bool:
    return Path(file).suffix == ".pth"


def _stop_before_training(number: int) -> None:
    raise Stopped(number)


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Until training begins, an error of any kind comes from what the user gave: it is passed on as one that says so.

    Raises:
        StartError: in place of the error of a library that is no ValueError, TypeError, ImportError or OSError.
    """
    try:
        yield
    except (ValueError, TypeError, ImportError, OSError):
        raise
    except Exception as error:
        kind = "" if isinstance(error, KeyError | AssertionError) else f"{type(error).__name__}: "
        raise StartError(f"the run cannot begin: {kind}{message(error)}") from error


@contextlib.contextmanager
def _own_folder(cfg: CfgNode, args: argparse.Namespace) -> Iterator[CfgNode]:
    """The config with the folder that this run may write to, which is this run's as long as it lasts."""
    with contextlib.ExitStack() as stack:
        found: Path | Exception | None = None
        if comm.is_main_process():
            try:
                found = stack.enter_context(
                    claimed(
                        Path(cfg.OUTPUT_DIR),
                        named=getattr(args, "folder_named", True),
                        resume=args.resume,
                        overwrite=getattr(args, "overwrite", False),
                    )
                )
            except (ValueError, OSError) as error:
                found = error
        found = comm.all_gather(found)[0]
        if isinstance(found, Exception):
            raise found
        yield _writing_to(cfg, found)


def _writing_to(cfg: CfgNode, folder: Path) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(folder)
    cfg.freeze()
    return cfg


def _train(cfg: CfgNode, args: argparse.Namespace, trainer: type[DefaultTrainer], console: Console) -> Path:
    folder = Path(cfg.OUTPUT_DIR)
    set_up(cfg, started_by=_started_by(args), console=console, record=False)
    with _starting():
        run = trainer(cfg)
        run.resume_or_load(resume=args.resume)
    if comm.is_main_process():
        (folder / SUMMARY).unlink(missing_ok=True)
        write_record(cfg, start=run.start_iter)
        if card_file := getattr(args, "card_file", None):  # what --data found
            shutil.copyfile(card_file, folder / CARD)
            (folder / ACCOUNT).write_text(args.account + "\n", encoding="utf-8")
    if args.resume:
        _say_what_is_resumed(cfg, run)
    run.train()
    results = getattr(run, "results", None) or {}
    if cfg.TEST.SIZES:
        average = getattr(run, "average", None)
        with average.applied() if average else contextlib.nullcontext():
            results = {**results, **evaluate_sizes(cfg, run.model, trainer)}
    _report(cfg, results)
    if cfg.DATASETS.FINAL_TEST:
        results = {**results, "final": _final_test(cfg, run.model, trainer)}
    if comm.is_main_process():
        write_summary(cfg, getattr(run, "detector", run.model), results)
        if cfg.TEST.REPORT:
            write_page(cfg.OUTPUT_DIR)
        files = [name for name in (f"{BEST}.pth", "model_final.pth", "report.html") if (folder / name).is_file()]
        logger.info("finished; %s has %s", folder, ", ".join(files))
    return folder


def _evaluate(cfg: CfgNode, args: argparse.Namespace, trainer: type[DefaultTrainer], console: Console) -> Path:
    """Evaluate weights; what comes out is below the folder of their run, whose own record stays as it is."""
    run, beside = Path(cfg.OUTPUT_DIR), Path(cfg.MODEL.WEIGHTS).parent
    named = getattr(args, "folder_named", True)
    if not named and args.resume:
        run = latest_run(run)
    elif not named and cfg.MODEL.WEIGHTS and (beside / "config.yaml").is_file():
        run = beside
    weights = (find_checkpoint(run) if args.resume else None) or cfg.MODEL.WEIGHTS
    with _starting():
        refuse(unknown_datasets(cfg, ("TEST",)))
        model = trainer.build_model(cfg)
        held = RetinaCheckpointer(model, cfg=cfg).load(str(weights), checkpointables=[], complete=True)
        _check_classes(held, cfg, str(weights))
    folder = comm.all_gather(evaluation_folder(run, str(weights)) if comm.is_main_process() else None)[0]
    cfg = _writing_to(cfg, folder)
    set_up(cfg, started_by=_started_by(args), console=console, training=False, record=False)
    if comm.is_main_process():
        (folder / "config.yaml").write_text(dump_config(cfg), encoding="utf-8")
    results = trainer.test(cfg, model)
    sizes = evaluate_sizes(cfg, model, trainer)
    if comm.is_main_process() and sizes:
        results = {**results, **sizes}
    _report(cfg, results)
    return folder


def _check_classes(held: dict, cfg: CfgNode, weights: str) -> None:
    """See that the classes of weights are those that they are evaluated on.

    Raises:
        ValueError: they are the same in another order.
    """
    theirs, ours = (held.get(INFO_KEY) or {}).get("class_names"), class_names(cfg)
    if theirs is None or list(theirs) == ours:
        return
    if sorted(theirs) == sorted(ours):
        raise ValueError(
            f"{weights} was trained with the classes in another order ({', '.join(theirs)}) than the dataset's ({', '.join(ours)})"
        )
    logger.warning(
        "%s was trained on the classes %s, and is evaluated on the classes %s",
        weights,
        ", ".join(theirs),
        ", ".join(ours),
    )


def _started_by(args: argparse.Namespace) -> str:
    return " ".join([args.config_file, *(["with", *args.opts] if args.opts else [])])


def _final_test(cfg: CfgNode, model: torch.nn.Module, trainer: type[DefaultTrainer]) -> dict:
    """Evaluate the best weights on DATASETS.FINAL_TEST, which training never saw and which chose nothing."""
    best = Path(cfg.OUTPUT_DIR) / f"{BEST}.pth"
    weights = best if best.exists() else Path(cfg.OUTPUT_DIR) / "model_final.pth"
    RetinaCheckpointer(model, cfg=cfg).load(str(weights), checkpointables=[], complete=True)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = cfg.DATASETS.FINAL_TEST
    cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / "final_test")
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    logger.info("%s on %s:", weights.name, ", ".join(cfg.DATASETS.FINAL_TEST))
    results = trainer.test(cfg, model)
    _report(cfg, results)
    return results


def _say_what_is_resumed(cfg: CfgNode, trainer: DefaultTrainer) -> None:
    if trainer.start_iter:
        logger.info(
            "resumed at iteration %d of %d, learning rate %g",
            trainer.start_iter,
            cfg.SOLVER.MAX_ITER,
            trainer.optimizer.param_groups[0]["lr"],
        )
    else:
        logger.warning("--resume: %s holds no checkpoint, so this is a new run", cfg.OUTPUT_DIR)


def _report(cfg: CfgNode, results: dict | None) -> None:
    """Write the table of the last evaluation, and say where it is."""
    if comm.is_main_process() and results and "bbox" in results:
        table = write_results(results, cfg.OUTPUT_DIR, f"{', '.join(cfg.DATASETS.TEST)}, {cfg.OUTPUT_DIR}")
        logger.info(
            "%s: %s; all of it in %s", ", ".join(cfg.DATASETS.TEST), figures(flatten_results_dict(results)), table
        )
        logger.debug("%s", table.read_text(encoding="utf-8"))
