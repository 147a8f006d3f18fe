"""Cards in Detectron2's catalogs, and what training and evaluation get from there."""

import logging
import os
from collections.abc import Callable, Container
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import check_metadata_consistency
from detectron2.structures import BoxMode

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.formats.base import same_shape
from retina_plugin.data.image_files import MAX_IMAGE_PIXELS
from retina_plugin.data.load import LoadResult, load_split, look_again, part_of
from retina_plugin.data.problems import DatasetProblems, Kind, Problem, describe
from retina_plugin.data.values import as_size
from retina_plugin.paths import shipped
from retina_plugin.text import read_yaml

logger = logging.getLogger(__name__)

FOUND = "found"
"""Folder below ``datasets/`` for the cards of what ``--data`` finds."""


def register_card(file: str | os.PathLike, *, replace: bool = False) -> DatasetCard:
    """Register the splits of a card as "<name>_<split>", without reading the data.

    Registering the same file again takes what it says now.

    Args:
        file: the card.
        replace: take the place of another card of the same name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the card is wrong, or another dataset has the name of one of its splits.
    """
    card = DatasetCard.from_file(file)
    path = str(card.file.resolve())
    for split in card.splits:
        name = f"{card.name}_{split}"
        registered_by = MetadataCatalog.get(name).get("card") if name in DatasetCatalog else None
        if name in DatasetCatalog and registered_by != path and not (replace and registered_by):
            raise ValueError(
                f"dataset card {file}: {name!r} is already registered"
                + (f" by {registered_by}" if registered_by else "")
            )
    for split in card.splits:
        name = f"{card.name}_{split}"
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
        DatasetCatalog.register(name, lambda card=card, split=split: _records(card, split))
        _describe(card, split)
    return card


def _records(card: DatasetCard, split: str) -> list[dict]:
    """What Detectron2's catalog gives; problems are logged."""
    result = load_split(card, split)
    _say(result)
    _describe(
        card,
        split,
        **{key: value for key, value in result.metadata.items() if key == "thing_dataset_id_to_contiguous_id"},
    )
    return result.records


def _describe(card: DatasetCard, split: str, **more) -> None:
    """Describe a split to detectron2 anew: its entry refuses a change, which another root would be."""
    name = f"{card.name}_{split}"
    if name in MetadataCatalog:
        MetadataCatalog.pop(name)
    MetadataCatalog.get(name).set(
        thing_classes=card.classes, evaluator_type="coco", card=str(card.file.resolve()), card_split=split, **more
    )


def _say(result: LoadResult) -> None:
    if result.problems:
        logger.warning("dataset %s: %s", result.name, describe(result.problems))
    if not result.boxes_used:
        logger.warning("dataset %s: %d images and not a single usable box", result.name, len(result.records))


def is_card(file: str | os.PathLike) -> bool:
    """Whether a YAML file is a dataset card, and not YOLO's data.yaml, say."""
    try:
        data = read_yaml(file)
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(data, dict) and {"format", "splits"} <= set(data)


def card_folders() -> list[Path]:
    """Where cards lie: ``datasets/`` of the repository and of the working directory, and in the second those that were found."""
    return [shipped("datasets"), Path.cwd() / "datasets", Path.cwd() / "datasets" / FOUND]


def register_new_cards() -> None:
    """:func:`register_cards` for those that are not registered yet: of a format that a module has brought, say."""
    register_cards(known={MetadataCatalog.get(name).get("card") for name in DatasetCatalog.list()})


def register_cards(*, known: Container[str | None] = ()) -> None:
    """Register every card in the ``datasets`` folders; one that is wrong is reported, left out, and stops nothing.

    Args:
        known: paths of cards that are left as they are.
    """
    try:
        files = dict.fromkeys(
            Path(os.path.realpath(file))
            for folder in card_folders()
            if folder.is_dir()
            for file in sorted(folder.glob("*.yaml"))
        )
    except (OSError, RuntimeError) as error:  # a folder that may not be read, a link to itself, no working directory
        logger.error("dataset cards cannot be looked for: %s", error)
        return
    for file in files:
        if str(file) in known:
            continue
        try:
            register_card(file)
        except (FileNotFoundError, ValueError) as error:
            logger.error("%s; its datasets are not registered", error)


def result_of(
    name: str, *, look: bool = True, progress: Callable | None = None, max_pixels: int = MAX_IMAGE_PIXELS
) -> LoadResult:
    """A registered dataset, cleaned: of a card, or of anybody else who registered it.

    Args:
        name: in detectron2's ``DatasetCatalog``.
        look, progress, max_pixels: see :func:`retina_plugin.data.load.load_split`.

    Raises:
        KeyError: it is not registered.
        FileNotFoundError, ValueError: see :func:`retina_plugin.data.load.load_split`.
    """
    metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
    if metadata is not None and (file := metadata.get("card")):
        card, split = DatasetCard.from_file(file), metadata.card_split
        result = load_split(card, split, look=look, progress=progress, max_pixels=max_pixels)
        _describe(
            card,
            split,
            **{key: value for key, value in result.metadata.items() if key == "thing_dataset_id_to_contiguous_id"},
        )
        return result
    return _cleaned(name, DatasetCatalog.get(name), look=look, progress=progress, max_pixels=max_pixels)


def _cleaned(name: str, records: list[dict], *, look: bool, progress: Callable | None, max_pixels: int) -> LoadResult:
    """Records that somebody else made: with a size and an id each, and without images that cannot be read.

    Raises:
        ValueError: a record names no file.
    """
    result = LoadResult(name, images=len(records))
    if bad := [
        number
        for number, record in enumerate(records)
        if not isinstance(record, dict) or not isinstance(record.get("file_name"), (str, os.PathLike))
    ]:
        raise ValueError(f"dataset {name}: record {bad[0]} has no file_name ({len(bad)} such records)")
    needed = [as_size(record.get("height")) is None or as_size(record.get("width")) is None for record in records]
    seen_files = look_again(
        [str(record["file_name"]) for record in records],
        needed,
        everything=look,
        progress=progress,
        max_pixels=max_pixels,
    )
    ids = [record.get("image_id") for record in records]
    unique = len(set(map(str, ids))) == len(ids) and None not in ids
    for record, seen in zip(records, seen_files, strict=True):
        annotations = record.get("annotations")
        result.boxes += len(annotations or ())
        record = {
            **record,
            "file_name": str(record["file_name"]),
            "image_id": record["image_id"] if unique else str(record["file_name"]),
        }
        if isinstance(seen, str):
            result.problems.append(
                Problem(
                    Kind.IMAGE, record["file_name"], seen, record["image_id"], boxes=len(annotations or ()), images=1
                )
            )
            continue
        said = as_size(record.get("height")), as_size(record.get("width"))
        if seen is not None and None not in said and said != (seen.height, seen.width):
            what = f"is {seen.width}x{seen.height}, but the annotations say {said[1]}x{said[0]}"
            factor = same_shape(said, (seen.height, seen.width))
            if factor is None or any("segmentation" in x for x in annotations or ()):
                result.problems.append(
                    Problem(
                        Kind.SIZE, record["file_name"], what, record["image_id"], boxes=len(annotations or ()), images=1
                    )
                )
                continue
            result.problems.append(
                Problem(Kind.SCALED, record["file_name"], what, record["image_id"], done="boxes scaled")
            )
            record["annotations"] = [_scaled(x, factor) for x in annotations or ()]
        record["height"], record["width"] = said if seen is None else (seen.height, seen.width)
        result.records.append(record)
    return result


def _scaled(annotation: dict, factor: tuple[float, float]) -> dict:
    x1, y1, x2, y2 = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    return {
        **annotation,
        "bbox": [x1 * factor[0], y1 * factor[1], x2 * factor[0], y2 * factor[1]],
        "bbox_mode": BoxMode.XYXY_ABS,
    }


def has_object(record: dict) -> bool:
    """Whether an image has a box that is no crowd."""
    return any(not x.get("iscrowd", 0) for x in record.get("annotations") or ())


def load_datasets(
    names: list[str],
    *,
    filter_empty: bool,
    on_problem: str,
    empty_share: float = 1.0,
    seed: int = 0,
    check_images: bool = True,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> list[dict]:
    """Detectron2's dataset dicts of several registered datasets, together, for training.

    Args:
        names: in detectron2's ``DatasetCatalog``.
        filter_empty: leave out images without boxes.
        empty_share: of the images without boxes, the share that is kept if they are not left out.
        seed: decides which.
        check_images: look at the header and the end of every image file first.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.
        on_problem: "drop", or "refuse" to stop if anything is wrong with one of them.

    Raises:
        DatasetProblems: with all problems of a dataset.
        KeyError: a dataset is not registered.
        ValueError: there is nothing to train on.
    """
    results = [result_of(name, look=check_images, max_pixels=max_pixels) for name in names]
    problems = [problem for result in results for problem in result.problems]
    for result in results:
        _say(result)
    if on_problem == "refuse" and problems:
        raise DatasetProblems(", ".join(names), problems)
    records = [record for result in results for record in result.records]
    without = [record for record in records if not has_object(record)]
    if not names or len(without) == len(records):
        raise ValueError(
            f"nothing to train on in {', '.join(names) or 'DATASETS.TRAIN ()'}: {len(records)} images, none with a box that can be used; {describe(problems)}"
        )
    if len(names) > 1:
        check_metadata_consistency("thing_classes", names)
    if filter_empty:
        logger.info("%d of %d images have no objects and are left out", len(without), len(records))
        return [record for record in records if has_object(record)]
    if empty_share < 1 and without:
        kept = {id(record) for record in part_of(without, 0.0, empty_share, seed=max(0, seed))}
        dropped = {id(record) for record in without} - kept
        records = [record for record in records if id(record) not in dropped]
        logger.info("%d of %d images without objects are trained on", len(kept), len(without))
    return records
