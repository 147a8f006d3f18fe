"""Loads the records of a card; training, evaluation, checks, statistics and export all get their data this way."""

import contextlib
import gc
import hashlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.digits import GENERATORS
from retina_plugin.data.files import relative
from retina_plugin.data.formats import FORMAT_REGISTRY
from retina_plugin.data.formats.base import Reading
from retina_plugin.data.image_files import MAX_IMAGE_PIXELS, look_at
from retina_plugin.data.image_headers import ImageHeader, too_large
from retina_plugin.data.problems import Kind, Problem

logger = logging.getLogger(__name__)

_SEEN: dict[str, tuple[tuple[int, int], ImageHeader | str]] = {}
"""Cache of image headers, or why there is none, by path, with the file's time and size when it was read.

An entry counts only while time and size are the same, so that the cache changes how long loading takes, not its result.
"""


@dataclass
class LoadResult:
    """The data of a split that is used, and what was wrong with the rest.

    Attributes:
        name: "<card>_<split>".
        records: Detectron2's dataset dicts: file_name, height, width, image_id (unique), and annotations with bbox
            (XYXY_ABS, pixels of the original image, inside of it), bbox_mode, category_id 0..K-1, iscrowd.
        problems: everything that was left out or changed.
        boxes: number of boxes in the annotations: the sum of those in the records and those lost to problems.
        images: number of images that the annotations name, likewise.
        files: annotation files that were read.
        metadata: attributes for the dataset's entry in Detectron2's ``MetadataCatalog``.
    """

    name: str
    records: list[dict] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    boxes: int = 0
    images: int = 0
    files: set[str] = field(default_factory=set)
    metadata: dict = field(default_factory=dict)

    @property
    def boxes_used(self) -> int:
        """Return the number of boxes in the records."""
        return sum(len(record["annotations"]) for record in self.records)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Disable the garbage collector, which takes half the time: millions of new dicts, none in a cycle, trigger it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_collector()
def load_split(
    card: DatasetCard,
    split: str,
    *,
    look: bool = True,
    progress: Callable | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> LoadResult:
    """Read a split of a card.

    Args:
        card: need not be registered.
        split: of the card.
        look: read the header and the end of every image file, so that images that cannot be read or whose size
            contradicts the annotations are found now, not during training.
        progress: see :func:`retina_plugin.data.image_files.look_at`.
        max_pixels: INPUT.MAX_IMAGE_PIXELS; larger images whose header was read are left out.

    Raises:
        FileNotFoundError: the data does not exist; contains where it was searched for.
        ValueError: the annotations cannot be read at all.
    """
    root, name = card.root_path(), f"{card.name}_{split}"
    if not os.path.exists(root) and card.generator:
        GENERATORS[card.generator](root)
    if not os.path.exists(root):
        raise FileNotFoundError(
            f"dataset {name}: there is no folder {root}. Get the data from {card.source} and put it there, or set "
            f"{card.root_variable} to its folder, or DETECTRON2_DATASETS to the folder that contains {card.root}"
        )
    result = LoadResult(name)
    used_before: dict[str, dict] = {}
    annotation_format, part = FORMAT_REGISTRY.get(card.format)(), card.part(split)
    # The images of a share may be in a folder called "train", whatever the share is called.
    folder_split = split if part is None else None
    look_at_files = partial(look_again, everything=look, progress=progress, max_pixels=max_pixels)
    for source in card.sources(split):
        reading = Reading(root, card.classes, source, split=folder_split, outside=card.outside)
        try:
            annotation_format.read(source, reading)
            reading.finish(look_at_files)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"dataset {name} (card {card.file}): {error}") from error
        _merge(result, reading, used_before)
    _make_ids_unique(result, root)
    if part is not None:
        _take_part(result, part, seed=card.seed)
    return result


def look_again(
    files: list[str], needed: list[bool], *, everything: bool, progress: Callable | None, max_pixels: int
) -> list[ImageHeader | str | None]:
    """Read the headers of image files, except of those that have not changed since they were last read.

    Args:
        files: paths.
        needed: for each file, whether its size has to be known.
        everything: read all files, not only those that are needed.
        progress: see :func:`retina_plugin.data.image_files.look_at`.
        max_pixels: INPUT.MAX_IMAGE_PIXELS; larger images cannot be used.

    Returns:
        For each file its header, why it cannot be used, or None if it was not read.
    """
    result: list[ImageHeader | str | None] = [None] * len(files)
    wanted: list[tuple[int, tuple[int, int] | None]] = []
    for i, file in enumerate(files):
        if not (everything or needed[i]):
            continue
        key = _time_and_size(file)
        before = _SEEN.get(file)
        if before is not None and before[0] == key:
            result[i] = before[1]
        else:
            wanted.append((i, key))
    looks = look_at([files[i] for i, _ in wanted], progress=progress, max_pixels=sys.maxsize)
    for (i, key), seen in zip(wanted, looks, strict=True):
        result[i] = seen
        if key is not None:
            _SEEN[files[i]] = key, seen
    return [(too_large(seen, max_pixels) or seen) if isinstance(seen, ImageHeader) else seen for seen in result]


def _time_and_size(file: str) -> tuple[int, int] | None:
    """Return when a file was changed, in ns, and its size in bytes; None if it does not exist."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size


def _merge(result: LoadResult, reading: Reading, used_before: dict[str, dict]) -> None:
    """Add the records of one source; an image that an earlier source has gets only the boxes that are new."""
    result.problems += reading.problems
    result.boxes += reading.total
    result.images += len(reading.records) + sum(problem.images for problem in reading.problems)
    result.files |= reading.files
    same_images = repeated = 0
    for record in reading.records:
        before = used_before.setdefault(record["file_name"], record)
        if before is record:
            result.records.append(record)
            continue
        same_images += 1
        known = Counter((x["category_id"], *(round(v, 1) for v in x["bbox"])) for x in before["annotations"])
        for annotation in record["annotations"]:
            key = (annotation["category_id"], *(round(v, 1) for v in annotation["bbox"]))
            if known[key] > 0:
                known[key] -= 1
                repeated += 1
            else:
                before["annotations"].append(annotation)
    if same_images:
        file = str(reading.source.get("annotations", reading.source))
        what = (
            f"{same_images} of its images are in another source of the split as well; "
            f"{repeated} of their boxes are the same"
        )
        result.problems.append(Problem(Kind.MERGED, file, what, done="merged", boxes=repeated, images=same_images))
    if not result.metadata:
        result.metadata = reading.metadata
    elif result.metadata != reading.metadata:
        result.metadata = {"mixed": True}


def _make_ids_unique(result: LoadResult, root: os.PathLike) -> None:
    """Replace all image ids by paths if two images have the same id; ids are only for bookkeeping."""
    ids = Counter(record["image_id"] for record in result.records)
    if len(ids) < len(result.records):
        for record in result.records:
            record["image_id"] = relative(record["file_name"], root)
        result.metadata = {**result.metadata, "ids_are_paths": True}


def _take_part(result: LoadResult, part: tuple[float, float], *, seed: int) -> None:
    """Reduce a result to a share of its images.

    The problems of the other images go with them; problems that belong to no image stay in the first share.
    """
    everything = {record["image_id"] for record in result.records}
    kept = part_of(result.records, *part, seed=seed)
    mine = {record["image_id"] for record in kept}
    others = everything - mine
    is_first = part[0] <= 0
    theirs = [
        problem for problem in result.problems if problem.image in others or not (is_first or problem.image in mine)
    ]
    other_records = [record for record in result.records if record["image_id"] in others]
    result.problems = [problem for problem in result.problems if problem not in theirs]
    result.images -= len(others) + sum(problem.images for problem in theirs)
    result.boxes -= sum(problem.boxes for problem in theirs)
    result.boxes -= sum(len(record["annotations"]) for record in other_records)
    result.records = kept


def part_of(records: list[dict], begin: float, end: float, *, seed: int) -> list[dict]:
    """Return a share of the images, in their original order.

    The images are shuffled by a hash of their ids and the seed, so that shares that do not overlap have no image in
    common, and a new image hardly changes where the others are. If there are at least two images, a share other than
    nothing and all contains at least one of them and leaves at least one.

    Args:
        records: with an "image_id" each.
        begin: of the share in the shuffled order, 0..1.
        end: of the share, 0..1.
        seed: of the shuffle.
    """

    def edge(share: float) -> int:
        """Return the index of the first image after a share."""
        place = round(share * len(records))
        return min(max(place, 1), len(records) - 1) if 0 < share < 1 and len(records) > 1 else place

    order = sorted(records, key=lambda record: hashlib.sha256(f"{seed} {record['image_id']}".encode()).digest())
    chosen = {id(record) for record in order[edge(begin) : edge(end)]}
    return [record for record in records if id(record) in chosen]
