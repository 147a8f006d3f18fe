"""Registers cards in Detectron2's catalogs, and loads registered datasets for training and evaluation."""

import logging
import os
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import check_metadata_consistency
from detectron2.structures import BoxMode

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.formats.base import same_shape
from retina_plugin.data.image_files import MAX_IMAGE_PIXELS, ImageHeader
from retina_plugin.data.load import LoadResult, load_split, look_again, part_of
from retina_plugin.data.problems import DatasetProblems, Kind, Problem, describe
from retina_plugin.data.values import as_size
from retina_plugin.paths import shipped
from retina_plugin.text import read_yaml

logger = logging.getLogger(__name__)

FOUND = "found"
"""Subfolder of ``datasets/`` for the cards of the data that ``--data`` finds."""


def register_card(file: str | os.PathLike, *, replace: bool = False) -> DatasetCard:
    """Register the splits of a card as "<name>_<split>", without reading the data.

    Registering the same file again updates its entries.

    Args:
        file: the card.
        replace: replace a different card of the same name.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the card is wrong, or the name of one of its splits is taken.
    """
    card = DatasetCard.from_file(file)
    path = str(card.file.resolve())
    for split in card.splits:
        name = f"{card.name}_{split}"
        registered_by = MetadataCatalog.get(name).get("card") if name in DatasetCatalog else None
        replaceable = registered_by == path or (replace and registered_by)
        if name in DatasetCatalog and not replaceable:
            by = f" by {registered_by}" if registered_by else ""
            raise ValueError(f"dataset card {file}: {name!r} is already registered{by}")
    for split in card.splits:
        name = f"{card.name}_{split}"
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
        DatasetCatalog.register(name, lambda card=card, split=split: _records(card, split))
        _describe(card, split)
    return card


def _records(card: DatasetCard, split: str) -> list[dict]:
    """Return the records for Detectron2's catalog, and log their problems."""
    result = load_split(card, split)
    _log_problems(result)
    _describe(card, split, result.metadata)
    return result.records


def _describe(card: DatasetCard, split: str, metadata: dict[str, Any] | None = None) -> None:
    """Replace the entry of a split in ``MetadataCatalog``, which refuses to change one, as a different root would.

    Args:
        card: the dataset.
        split: to describe.
        metadata: of a :class:`LoadResult`; only the ids of its classes are taken.
    """
    name, key = f"{card.name}_{split}", "thing_dataset_id_to_contiguous_id"
    more = {key: metadata[key]} if metadata and key in metadata else {}
    if name in MetadataCatalog:
        MetadataCatalog.pop(name)
    MetadataCatalog.get(name).set(
        thing_classes=card.classes, evaluator_type="coco", card=str(card.file.resolve()), card_split=split, **more
    )


def _log_problems(result: LoadResult) -> None:
    if result.problems:
        logger.warning("dataset %s: %s", result.name, describe(result.problems))
    if not result.boxes_used:
        logger.warning("dataset %s: %d images without a single usable box", result.name, len(result.records))


def is_card(file: str | os.PathLike) -> bool:
    """Return whether a YAML file is a dataset card, and not YOLO's data.yaml, for example."""
    try:
        data = read_yaml(file)
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(data, dict) and {"format", "splits"} <= set(data)


def card_folders() -> list[Path]:
    """Return the folders with cards: ``datasets/`` of the repository and the working directory, and its ``found/``."""
    return [shipped("datasets"), Path.cwd() / "datasets", Path.cwd() / "datasets" / FOUND]


def register_new_cards() -> None:
    """Register the cards that are not registered yet, such as those of a format that an imported module has added."""
    register_cards(known={MetadataCatalog.get(name).get("card") for name in DatasetCatalog.list()})


def register_cards(*, known: Container[str | None] = ()) -> None:
    """Register every card in the ``datasets`` folders; wrong ones are logged as errors and skipped.

    Args:
        known: paths of cards to skip.
    """
    try:
        files = dict.fromkeys(
            Path(os.path.realpath(file))
            for folder in card_folders()
            if folder.is_dir()
            for file in sorted(folder.glob("*.yaml"))
        )
    except (OSError, RuntimeError) as error:  # an unreadable folder, a link to itself, no working directory
        logger.error("cannot search for dataset cards: %s", error)
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
    """Load a registered dataset and clean it, whether it was registered by a card or by other code.

    Args:
        name: in Detectron2's ``DatasetCatalog``.
        look: see :func:`retina_plugin.data.load.load_split`.
        progress: likewise.
        max_pixels: likewise.

    Raises:
        KeyError: it is not registered.
        FileNotFoundError, ValueError: see :func:`retina_plugin.data.load.load_split`.
    """
    metadata = MetadataCatalog.get(name) if name in DatasetCatalog else None
    if metadata is not None and (file := metadata.get("card")):
        card, split = DatasetCard.from_file(file), metadata.card_split
        result = load_split(card, split, look=look, progress=progress, max_pixels=max_pixels)
        _describe(card, split, result.metadata)
        return result
    return _cleaned(name, DatasetCatalog.get(name), look=look, progress=progress, max_pixels=max_pixels)


def _cleaned(name: str, records: list[dict], *, look: bool, progress: Callable | None, max_pixels: int) -> LoadResult:
    """Clean third-party records: add sizes and ids, leave out images that cannot be read.

    Raises:
        ValueError: a record names no file.
    """
    result = LoadResult(name, images=len(records))
    if bad := [number for number, record in enumerate(records) if not _names_a_file(record)]:
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
    for original, seen in zip(records, seen_files, strict=True):
        file = str(original["file_name"])
        record = {**original, "file_name": file, "image_id": original["image_id"] if unique else file}
        result.boxes += len(record.get("annotations") or ())
        problem = _problem_of(record, seen)
        if problem is not None:
            result.problems.append(problem)
        if problem is None or not problem.images:
            result.records.append(record)
    return result


def _names_a_file(record: object) -> bool:
    return isinstance(record, dict) and isinstance(record.get("file_name"), (str, os.PathLike))


def _problem_of(record: dict, seen: ImageHeader | str | None) -> Problem | None:
    """Give a third-party record the size of its image, scaling its boxes if need be, and return what is wrong with it.

    Args:
        record: changed in place, unless the image has to be left out.
        seen: the header of its file, why it cannot be read, or None if it was not read.
    """
    file, image_id, annotations = record["file_name"], record["image_id"], record.get("annotations") or ()
    if isinstance(seen, str):
        return Problem(Kind.IMAGE, file, seen, image_id, boxes=len(annotations), images=1)
    height, width = as_size(record.get("height")), as_size(record.get("width"))
    if seen is None:
        record["height"], record["width"] = height, width
        return None
    size = seen.height, seen.width
    problem = None
    if height is not None and width is not None and (height, width) != size:
        what = f"is {seen.width}x{seen.height}, but the annotations say {width}x{height}"
        factor = same_shape((height, width), size)
        if factor is None or any("segmentation" in x for x in annotations):
            return Problem(Kind.SIZE, file, what, image_id, boxes=len(annotations), images=1)
        problem = Problem(Kind.SCALED, file, what, image_id, done="boxes scaled")
        record["annotations"] = [_scaled(x, factor) for x in annotations]
    record["height"], record["width"] = size
    return problem


def _scaled(annotation: dict, factor: tuple[float, float]) -> dict:
    """Return an annotation with its box scaled by a factor for x and one for y."""
    x1, y1, x2, y2 = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    return {
        **annotation,
        "bbox": [x1 * factor[0], y1 * factor[1], x2 * factor[0], y2 * factor[1]],
        "bbox_mode": BoxMode.XYXY_ABS,
    }


def has_object(record: dict) -> bool:
    """Return whether an image has a box that is not a crowd."""
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
    """Return Detectron2's dataset dicts of several registered datasets, concatenated, for training.

    Args:
        names: in Detectron2's ``DatasetCatalog``.
        filter_empty: leave out images without boxes.
        on_problem: "drop", or "refuse" to stop if anything is wrong with one of the datasets.
        empty_share: share of the images without boxes to keep, 0..1, if they are not left out.
        seed: decides which images without boxes are kept.
        check_images: read the header and the end of every image file first.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.

    Raises:
        DatasetProblems: "refuse" and there are problems; lists those of all datasets.
        KeyError: a dataset is not registered.
        ValueError: there is nothing to train on.
    """
    results = [result_of(name, look=check_images, max_pixels=max_pixels) for name in names]
    problems = [problem for result in results for problem in result.problems]
    for result in results:
        _log_problems(result)
    if on_problem == "refuse" and problems:
        raise DatasetProblems(", ".join(names), problems)
    records = [record for result in results for record in result.records]
    without = [record for record in records if not has_object(record)]
    if not names or len(without) == len(records):
        raise ValueError(
            f"nothing to train on in {', '.join(names) or 'DATASETS.TRAIN ()'}: {len(records)} images, "
            f"none with a usable box; {describe(problems)}"
        )
    if len(names) > 1:
        check_metadata_consistency("thing_classes", names)
    if filter_empty:
        if without:
            logger.info("leaving out the %d of %d images that have no objects", len(without), len(records))
        return [record for record in records if has_object(record)]
    if empty_share < 1 and without:
        kept = {id(record) for record in part_of(without, 0.0, empty_share, seed=max(0, seed))}
        dropped = {id(record) for record in without} - kept
        records = [record for record in records if id(record) not in dropped]
        logger.info("keeping %d of %d images without objects for training", len(kept), len(without))
    return records
