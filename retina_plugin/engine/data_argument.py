"""What ``--data`` does: find the dataset, register its card, and set the config keys that train on it."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detectron2.config import CfgNode

from retina_plugin.config.checkpoint_info import config_in_checkpoint
from retina_plugin.config.key import changed_keys
from retina_plugin.config.load import load_config
from retina_plugin.data.account import account_of
from retina_plugin.data.card import DatasetCard
from retina_plugin.data.catalog import FOUND, has_object, register_card
from retina_plugin.data.discover import find_card, write_card
from retina_plugin.data.image_headers import MAX_IMAGE_PIXELS
from retina_plugin.data.load import LoadResult, load_split
from retina_plugin.data.pixels import PixelRange, pixel_range_of
from retina_plugin.data.resize import read_resized
from retina_plugin.engine.builders import build_model
from retina_plugin.engine.folder import has_run, latest_run
from retina_plugin.paths import shipped
from retina_plugin.plan.budget import Budget
from retina_plugin.plan.fingerprint import fingerprint_of
from retina_plugin.plan.plan import Plan, earlier_options, make_plan, options_of

COCO_DETECTIONS = 100
"""Detectron2's default of TEST.DETECTIONS_PER_IMAGE."""

LOOKED_AT = 800
"""Shorter side to which larger images are reduced to look at them, pixels."""

LEARNED = (
    "INPUT.FORMAT",
    "MODEL.ANCHOR_GENERATOR.",
    "MODEL.BACKBONE.",
    "MODEL.BOTTOM_UP.",
    "MODEL.DETECTRON2.",
    "MODEL.FPN.",
    "MODEL.META_ARCHITECTURE",
    "MODEL.PIXEL_",
    "MODEL.RESNETS.",
    "MODEL.RETINANET.BBOX_REG_",
    "MODEL.RETINANET.HEAD_",
    "MODEL.RETINANET.IN_FEATURES",
    "MODEL.RETINANET.LEVELS",
    "MODEL.RETINANET.NORM",
    "MODEL.RETINANET.NUM_CONVS",
    "MODEL.TIMM.",
    "MODEL.TORCHVISION.",
)
"""Beginnings of the keys of the network that given weights belong to, and of what its box layer has learned."""

FINETUNE = "configs/finetune.yaml"
"""Config file that ``--data`` trains with unless one is given."""


def use_data(args: argparse.Namespace) -> str:
    """Make ``args`` train on the dataset in ``args.data``, in place.

    A dataset without a card gets one in ``datasets/found/``, which is rewritten each time. Without a config file, the
    training is planned from the data, unless ``no_plan`` is set; a run that is resumed keeps its plan, and weights that
    are evaluated keep their config.

    Args:
        args: ``data``, ``data_format``, ``minutes``, ``no_plan``, ``resume`` and ``eval_only`` are read;
            ``config_file`` is set if it is empty; the keys of the dataset and of the plan are put in front of ``opts``;
            ``card_file``, ``account`` and ``plan`` (JSON, or None) are added.

    Returns:
        Which card and how much of the data is used, and the plan, for the console.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: it is not a dataset, or there is nothing to train on or to validate on.
        OSError: the card cannot be written.
    """
    card, changes, results = load_card(args.data, args.data_format)
    for split in ("train", "val"):
        if split in results and not any(has_object(record) for record in results[split].records):
            raise ValueError(
                f"{args.data}: no usable {split} data: {len(results[split].records)} images, none with a box that is "
                f"not a crowd; `retina data check {args.data}` shows why"
            )
    args.account = account_of(card, results).text()
    most = max((_objects(record) for result in results.values() for record in result.records), default=0)
    planned, plan_text, args.plan = list[str](), "", None
    if not args.config_file and not getattr(args, "no_plan", False):
        planned, plan_text, args.plan = _planned(args, card, results)
    args.config_file, args.card_file = args.config_file or str(shipped(FINETUNE)), str(card.file)
    args.opts = [*options_for(card), *_detections_for(most), *planned, *args.opts]

    lines = [f"{args.data}: {card.format}, card {card.file}", args.account]
    lines += [f"changed since {card.file} was written: {change}" for change in changes]
    if problems := sum(len(result.problems) for result in results.values()):
        lines.append(f"{problems} problems; `retina data check {args.data}` lists them")
    if card.value_range is not None:
        low, high = card.value_range
        lines.append(
            f"images with more than 8 bits: values {low:g} to {high:g} of the whole data set become 0 to 255 "
            "(INPUT.VALUE_RANGE)"
        )
    if plan_text:
        lines.append(plan_text)
    elif most > COCO_DETECTIONS:
        lines.append(f"up to {most} objects in an image: TEST.DETECTIONS_PER_IMAGE {_detections_for(most)[1]}")
    return "\n".join(lines)


def plan_of(
    card: DatasetCard,
    results: dict[str, LoadResult],
    *,
    opts: Sequence[str] = (),
    budget: Budget | None = None,
) -> Plan:
    """Plan a training on a dataset.

    Args:
        card: of the dataset.
        results: of loading its splits.
        opts: keys and values of the user, which the plan does not change.
        budget: what the training may cost.

    Raises:
        ValueError: there is nothing to plan for, or the options are wrong.
    """
    trained = results.get("train") or next(iter(results.values()))
    tested = results.get("val") or results.get("test") or trained
    final = results["test"].records if "test" in results and "val" in results else []
    named = dict(zip(opts[0::2], opts[1::2], strict=False))
    max_pixels = int(named.get("INPUT.MAX_IMAGE_PIXELS", MAX_IMAGE_PIXELS))
    records = [x for x in trained.records if x["height"] * x["width"] <= max_pixels]
    if len(records) < len(trained.records) and not any(map(has_object, records)):
        large = next(x for x in trained.records if x["height"] * x["width"] > max_pixels and has_object(x))
        raise ValueError(
            f"{large['file_name']} is {large['width']}x{large['height']}, more than the {max_pixels} pixels of "
            "INPUT.MAX_IMAGE_PIXELS, and so is every other image with an object: cut the images into pieces"
        )
    sizes = {x["file_name"]: min(x["height"], x["width"]) for x in (*records, *tested.records)}
    value_range = PixelRange(*card.value_range) if card.value_range is not None else None

    def read(file: str) -> np.ndarray:
        """Return an image, reduced if it is large."""
        image, _, _ = read_resized(
            file,
            shorter=min(LOOKED_AT, sizes[file]),
            longest=100 * LOOKED_AT,
            image_format="BGR",
            value_range=value_range,
            max_pixels=max_pixels,
        )
        return image

    others = [] if tested is trained else [tested.records]
    others += [x.records for x in results.values() if x is not trained and x is not tested]
    return make_plan(
        fingerprint_of(records, card.classes, others=others, read=read),
        records,
        len(card.classes),
        config_file=shipped(FINETUNE),
        opts=opts,
        budget=budget,
        test_images=len(tested.records),
        last_images=len(tested.records) + len(final),
        build=build_model,
    )


def _planned(
    args: argparse.Namespace, card: DatasetCard, results: dict[str, LoadResult]
) -> tuple[list[str], str, str | None]:
    """Return the options of a plan, its table, and its JSON if it is new.

    A run that is resumed keeps the plan that lies in its folder. Weights of the plugin are evaluated with the config
    that they contain, which becomes ``config_file``, and trained further as the network that they belong to.
    """
    opts = [*args.opts]
    named = dict(zip(opts[0::2], opts[1::2], strict=False))
    weights = named.get("MODEL.WEIGHTS", "")
    inside = config_in_checkpoint(weights) if weights else None
    if getattr(args, "eval_only", False):
        if inside is None:
            return [], f"{weights or 'MODEL.WEIGHTS'} has no config: evaluated as {FINETUNE} says", None
        args.config_file = weights
        return [], f"evaluated with the config of {weights}", None
    if getattr(args, "resume", False):
        folder = Path(named["OUTPUT_DIR"]) if "OUTPUT_DIR" in named else latest_run(Path("output") / card.name)
        if has_run(folder):
            earlier = earlier_options(folder)
            return earlier or [], f"the plan of {folder}" if earlier else "", None
    several = "RANK" in os.environ or getattr(args, "num_gpus", 1) * getattr(args, "num_machines", 1) > 1
    if getattr(args, "minutes", None) and several:
        raise ValueError("--minutes measures the speed of one process: with several, give --epochs")
    learned = options_of(_learned(inside or {}))
    budget = Budget(minutes=getattr(args, "minutes", None))
    plan = plan_of(card, results, opts=[*learned, *opts], budget=budget)
    text = f"planned from the data (--no-plan trains with {FINETUNE} as it is):\n{plan.table()}"
    if inside is not None:
        text += f"\nbackbone, pyramid, head and anchors are those of {weights}"
    return [*learned, *plan.options()], text, plan.json()


def _learned(inside: dict) -> dict[str, Any]:
    """Return the keys of the network in the config of a checkpoint that differ from those of ``FINETUNE``."""
    base = load_config(shipped(FINETUNE), ["MODEL.RETINANET.NUM_CLASSES", "1"])
    changed = changed_keys(base, CfgNode(inside))
    return {key: value for key, old, value in changed if key.startswith(LEARNED) and old != "-"}


def _objects(record: dict) -> int:
    """Return the number of objects of an image, without crowds."""
    return sum(not annotation.get("iscrowd") for annotation in record.get("annotations") or ())


def _detections_for(most: int) -> list[str]:
    """Return the setting of TEST.DETECTIONS_PER_IMAGE for at most so many objects in an image; none if 100 is enough.

    It leaves room for half as many wrong detections.
    """
    if most <= COCO_DETECTIONS:
        return []
    return ["TEST.DETECTIONS_PER_IMAGE", str(-(-most * 3 // 200) * 100)]


def load_card(data: str, data_format: str | None) -> tuple[DatasetCard, list[str], dict[str, LoadResult]]:
    """Find the card of a dataset or write one, register it, and load its splits without decoding images.

    Returns:
        The registered card, what has changed since it was written last, and the result of loading each split.
    """
    card = find_card(data, format=data_format)
    found = not card.file.exists() or card.file.parent.name == FOUND
    file, changes = card.file, list[str]()
    try:
        if found:
            file, changes = write_card(card, Path("datasets") / FOUND)
        card = register_card(file, replace=found)
        results = {split: load_split(card, split, look=False) for split in card.splits}
        card = _with_value_range(card, results)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OSError(f"the dataset card of {data} cannot be written: {error}") from error
    return card, changes, results


def options_for(card: DatasetCard) -> list[str]:
    """Return the config keys and values, alternating, that train and evaluate on the splits of a registered card."""
    names = {split: f"{card.name}_{split}" for split in card.splits}
    trained = names.get("train") or next(iter(names.values()))
    tested = names.get("val") or names.get("test") or trained
    options = {
        "DATASETS.TRAIN": str((trained,)),
        "DATASETS.TEST": str((tested,)),
        "OUTPUT_DIR": f"output/{card.name}",
    }
    if "test" in names and "val" in names:
        options["DATASETS.FINAL_TEST"] = str((names["test"],))
    if card.value_range is not None:
        low, high = card.value_range
        options["INPUT.VALUE_RANGE"] = str((float(low), float(high)))
    return [word for pair in options.items() for word in pair]


def _with_value_range(card: DatasetCard, results: dict[str, LoadResult]) -> DatasetCard:
    """Return the card with the value range of its images if they have more than 8 bits.

    The range is measured once for the whole dataset and, if the card was generated, written to it. A card that has a
    range already, or 8-bit images, is returned unchanged.
    """
    files = [record["file_name"] for result in results.values() for record in result.records]
    if card.value_range is not None or (found := pixel_range_of(files)) is None:
        return card
    card = dataclasses.replace(card, value_range=(float(found.low), float(found.high)))
    if card.file.parent.name == FOUND:
        comment = "# Found by retina_plugin, which overwrites this file on every search; copy it elsewhere to edit it."
        card.file.write_text(f"{comment}\n{card.text()}", encoding="utf-8")
    return card
