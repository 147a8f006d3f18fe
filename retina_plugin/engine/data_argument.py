"""What ``--data`` does: find the dataset, register its card, and set the config keys that train on it."""

import argparse
import dataclasses
from pathlib import Path

from retina_plugin.data.account import account_of
from retina_plugin.data.card import DatasetCard
from retina_plugin.data.catalog import FOUND, has_object, register_card
from retina_plugin.data.discover import find_card, write_card
from retina_plugin.data.load import LoadResult, load_split
from retina_plugin.data.pixels import pixel_range_of
from retina_plugin.paths import shipped

COCO_DETECTIONS = 100
"""Detectron2's default of TEST.DETECTIONS_PER_IMAGE."""

FINETUNE = "configs/finetune.yaml"
"""Config file that ``--data`` trains with unless one is given."""


def use_data(args: argparse.Namespace) -> str:
    """Make ``args`` train on the dataset in ``args.data``, in place.

    A dataset without a card gets one in ``datasets/found/``, which is rewritten each time.

    Args:
        args: ``data`` and ``data_format`` are read; ``config_file`` is set if it is empty; the keys of the dataset are
            put in front of ``opts``; ``card_file`` and ``account`` are added.

    Returns:
        Which card and how much of the data is used, a few lines for the console.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: it is not a dataset, or there is nothing to train on or to validate on.
        OSError: the card cannot be written.
    """
    card, changes, results = _load(args.data, args.data_format)
    for split in ("train", "val"):
        if split in results and not any(has_object(record) for record in results[split].records):
            raise ValueError(
                f"{args.data}: no usable {split} data: {len(results[split].records)} images, none with a box that is "
                f"not a crowd; `retina data check {args.data}` shows why"
            )
    args.account = account_of(card, results).text()
    args.config_file, args.card_file = args.config_file or str(shipped(FINETUNE)), str(card.file)
    most = max((_objects(record) for result in results.values() for record in result.records), default=0)
    args.opts = [*_options_for(card), *_detections_for(most), *args.opts]

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
    if most > COCO_DETECTIONS:
        lines.append(f"up to {most} objects in an image: TEST.DETECTIONS_PER_IMAGE {_detections_for(most)[1]}")
    return "\n".join(lines)


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


def _load(data: str, data_format: str | None) -> tuple[DatasetCard, list[str], dict[str, LoadResult]]:
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


def _options_for(card: DatasetCard) -> list[str]:
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
