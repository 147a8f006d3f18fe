"""Evaluation of weights: ``--eval-only``, the final test after a training, and the table of either."""

import argparse
import logging
from pathlib import Path

import torch

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm

from retina_plugin.config import INFO_KEY, dump_config
from retina_plugin.config.check import refuse
from retina_plugin.config.contradictions import unknown_datasets
from retina_plugin.engine.builders import dataset_folder
from retina_plugin.engine.checkpoint import RetinaCheckpointer, class_names
from retina_plugin.engine.console import Console
from retina_plugin.engine.ending import starting
from retina_plugin.engine.evaluation_hook import BEST, figures
from retina_plugin.engine.folder import evaluation_folder, latest_run, with_output_dir
from retina_plugin.engine.resume import find_checkpoint
from retina_plugin.engine.setup import command_of, set_up
from retina_plugin.engine.sizes import evaluate_sizes
from retina_plugin.evaluation import write_results

logger = logging.getLogger(__name__)


def evaluate(cfg: CfgNode, args: argparse.Namespace, trainer: type[DefaultTrainer], console: Console) -> Path:
    """Evaluate MODEL.WEIGHTS on DATASETS.TEST and at TEST.SIZES, without training.

    Args:
        cfg: config of the run. Without an OUTPUT_DIR on the command line, the folder of the weights is the run's.
        args: parsed command line; with ``resume`` the last checkpoint of the run is evaluated.
        trainer: its ``build_model`` and ``test`` are used.
        console: of the process.

    Returns:
        A new folder below the run's with the results; the run's own files stay as they are.

    Raises:
        ValueError: a dataset is unknown, or the weights are incomplete or have their classes in a different order.
        FileNotFoundError: there is no such file of weights.
    """
    run, weights_folder = Path(cfg.OUTPUT_DIR), Path(cfg.MODEL.WEIGHTS).parent
    named = getattr(args, "folder_named", True)
    if not named and args.resume:
        run = latest_run(run)
    elif not named and cfg.MODEL.WEIGHTS and (weights_folder / "config.yaml").is_file():
        run = weights_folder
    weights = (find_checkpoint(run) if args.resume else None) or cfg.MODEL.WEIGHTS
    with starting():
        refuse(unknown_datasets(cfg, ("TEST",)))
        model = trainer.build_model(cfg)
        held = RetinaCheckpointer(model, cfg=cfg).load(str(weights), checkpointables=[], complete=True)
        check_classes(held, cfg, str(weights))
    folder = comm.all_gather(evaluation_folder(run, str(weights)) if comm.is_main_process() else None)[0]
    cfg = with_output_dir(cfg, folder)
    set_up(cfg, started_by=command_of(args), console=console, training=False, record=False)
    if comm.is_main_process():
        (folder / "config.yaml").write_text(dump_config(cfg), encoding="utf-8")
    results = trainer.test(cfg, model)
    sizes = evaluate_sizes(cfg, model, trainer)
    if comm.is_main_process() and sizes:
        results = {**results, **sizes}
    report(cfg, results)
    return folder


def check_classes(held: dict, cfg: CfgNode, weights: str) -> None:
    """Check that weights were trained on the classes that they are evaluated on; different names are a warning.

    Args:
        held: what the checkpoint holds; nothing is checked if it does not name its classes.
        cfg: names the dataset.
        weights: path of the checkpoint, for the message.

    Raises:
        ValueError: the classes are the same in a different order.
    """
    theirs, ours = (held.get(INFO_KEY) or {}).get("class_names"), class_names(cfg)
    if theirs is None or list(theirs) == ours:
        return
    if sorted(theirs) == sorted(ours):
        raise ValueError(
            f"{weights} was trained with its classes in a different order ({', '.join(theirs)}) than the dataset's "
            f"({', '.join(ours)})"
        )
    logger.warning(
        "%s was trained on the classes %s, but is evaluated on the classes %s",
        weights,
        ", ".join(theirs),
        ", ".join(ours),
    )


def final_test(cfg: CfgNode, model: torch.nn.Module, trainer: type[DefaultTrainer]) -> dict:
    """Evaluate the best weights on DATASETS.FINAL_TEST, which was used neither to train nor to choose anything.

    Args:
        cfg: config of the run, whose folder has the weights and gets a folder ``final_test``.
        model: the detector, into which the weights are loaded.
        trainer: its ``test`` is used.

    Returns:
        Nested results, such as {"bbox": {"AP": 50.0}}, on the main process.
    """
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
    report(cfg, results)
    return results


def report(cfg: CfgNode, results: dict | None) -> None:
    """Write the result table of each dataset and log its main metrics, on the main process.

    The table is in OUTPUT_DIR, or in the folder of the dataset if it is not the first of several.
    """
    if not comm.is_main_process() or not results:
        return
    of_each = {", ".join(cfg.DATASETS.TEST): results}
    if "bbox" not in results:
        of_each = {name: results[name] for name in cfg.DATASETS.TEST if name in results}
    for name, found in of_each.items():
        if "bbox" not in found:  # a third-party evaluator, which reports itself
            continue
        table = write_results(found, str(dataset_folder(cfg, name)), f"{name}, {cfg.OUTPUT_DIR}")
        logger.info("%s: %s; full table in %s", name, figures(flatten_results_dict(found)), table)
        logger.debug("%s", table.read_text(encoding="utf-8"))
