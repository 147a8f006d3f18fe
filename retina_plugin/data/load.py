"""From cards to records: the one way by which training, evaluation, checks, statistics and export get their data."""

import contextlib
import gc
import hashlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from retina_plugin.data.card import GENERATORS, DatasetCard
from retina_plugin.data.formats import FORMAT_REGISTRY
from retina_plugin.data.formats.base import Reading
from retina_plugin.data.image_files import MAX_IMAGE_PIXELS, look_at
from retina_plugin.data.image_headers import ImageHeader, too_large
from retina_plugin.data.problems import Kind, Problem

logger = logging.getLogger(__name__)

_SEEN: dict[str, tuple[tuple[int, int], object]] = {}
"""What a look at an image file gave, as long as its time and size are what they were."""


@dataclass
class LoadResult:
    """A split as it is used.

    Attributes:
        name: "<card>_<split>".
        records: Detectron2's dataset dicts: file_name, height, width, image_id (each once), and annotations with bbox (XYXY_ABS, pixels of
            the original image, inside of it), bbox_mode, category_id 0..K-1, iscrowd.
        problems: everything that was left out or changed.
        boxes: that the annotations hold, good or bad; those of the records and those that problems cost add up to it.
        images: that the annotations name, likewise.
        files: annotation files that were read.
        metadata: attributes for the dataset's entry in detectron2's ``MetadataCatalog``.
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
        """Boxes of the records."""
        return sum(len(record["annotations"]) for record in self.records)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Let no garbage collection run: millions of new dicts, none of them in a cycle, would set it off again and again, for half of the time."""
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
        look: look at the header and the end of every image file, so that what cannot be read, or has another size than the annotations
            say, does not surprise anybody later.
        progress: see :func:`retina_plugin.data.image_files.look_at`.
        max_pixels: INPUT.MAX_IMAGE_PIXELS; a larger image that was looked at is left out.

    Raises:
        FileNotFoundError: the data is not there; says where it was looked for.
        ValueError: the annotations cannot be read at all.
    """
    root, name = card.root_path(), f"{card.name}_{split}"
    if not os.path.exists(root) and card.generator:
        GENERATORS[card.generator](root)
    if not os.path.exists(root):
        raise FileNotFoundError(
            f"dataset {name}: there is no folder {root}. Get the data from {card.source} and put it there, or set "
            f"{card.root_variable} to its folder, or DETECTRON2_DATASETS to the folder that holds {card.root}"
        )
    result, used_before = LoadResult(name), {}
    annotation_format, part = FORMAT_REGISTRY.get(card.format)(), card.part(split)
    meant = (
        split if part is None else None
    )  # a share of images that may be in a folder called "train", whatever the share is called
    for source in card.sources(split):
        reading = Reading(root, card.classes, source, split=meant, outside=card.outside)
        try:
            annotation_format.read(source, reading)
            reading.finish(
                lambda files, needed: look_again(
                    files, needed, everything=look, progress=progress, max_pixels=max_pixels
                )
            )
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"dataset {name} (card {card.file}): {error}") from error
        _unite(result, reading, used_before)
    _make_ids_unique(result, root)
    if part is not None:
        _take_part(result, part, seed=card.seed)
    return result


def look_again(
    files: list[str], needed: list[bool], *, everything: bool, progress: Callable | None, max_pixels: int
) -> list[ImageHeader | str | None]:
    """What each image file says, None where it is neither needed nor wanted; files that did not change are not looked at again."""
    result, wanted = [None] * len(files), []
    for i, file in enumerate(files):
        if not (everything or needed[i]):
            continue
        try:
            state = os.stat(file)
            key = (state.st_mtime_ns, state.st_size)
        except (OSError, ValueError):
            key = None
        before = _SEEN.get(file)
        if before is not None and before[0] == key:
            result[i] = before[1]
        else:
            wanted.append((i, key))
    for (i, key), seen in zip(
        wanted, look_at([files[i] for i, _ in wanted], progress=progress, max_pixels=sys.maxsize), strict=True
    ):
        result[i] = seen
        if key is not None:
            _SEEN[files[i]] = key, seen
    return [(too_large(seen, max_pixels) or seen) if isinstance(seen, ImageHeader) else seen for seen in result]


def _unite(result: LoadResult, reading: Reading, used_before: dict[str, dict]) -> None:
    """Add what one source gave; an image that an earlier one has gets the boxes that are new."""
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
        what = f"{same_images} of its images are in another source of the split, too; {repeated} of their boxes are the same"
        result.problems.append(
            Problem(
                Kind.MERGED,
                str(reading.source.get("annotations", reading.source)),
                what,
                done="united",
                boxes=repeated,
                images=same_images,
            )
        )
    result.metadata = (
        reading.metadata
        if not result.metadata
        else (result.metadata if result.metadata == reading.metadata else {"mixed": True})
    )


def _make_ids_unique(result: LoadResult, root: os.PathLike) -> None:
    """Where two images have one id, all are called by their paths: an id is only for bookkeeping."""
    ids = Counter(record["image_id"] for record in result.records)
    if len(ids) < len(result.records):
        for record in result.records:
            record["image_id"] = os.path.relpath(record["file_name"], root).replace(os.sep, "/")
        result.metadata = {**result.metadata, "ids_are_paths": True}


def _take_part(result: LoadResult, part: tuple[float, float], *, seed: int) -> None:
    """Leave the part of the images that a split is; what was wrong with the others is theirs, and what belongs to no image is the first part's."""
    everything = {record["image_id"] for record in result.records}
    kept = part_of(result.records, *part, seed=seed)
    mine = {record["image_id"] for record in kept}
    others = everything - mine
    theirs = [
        problem for problem in result.problems if problem.image in others or (part[0] > 0 and problem.image not in mine)
    ]
    result.problems = [problem for problem in result.problems if problem not in theirs]
    result.images -= len(others) + sum(problem.images for problem in theirs)
    result.boxes -= sum(problem.boxes for problem in theirs) + sum(
        len(record["annotations"]) for record in result.records if record["image_id"] in others
    )
    result.records = kept


def part_of(records: list[dict], begin: float, end: float, *, seed: int) -> list[dict]:
    """The images from ``begin`` to ``end`` (0..1) of an order that their ids and the seed decide, as they were ordered before.

    Parts that do not overlap share no image, and a new image leaves the others about where they were. Of two images and more a part that
    is neither nothing nor all has at least one, and leaves one.
    """

    def edge(share: float) -> int:
        place = round(share * len(records))
        return min(max(place, 1), len(records) - 1) if 0 < share < 1 and len(records) > 1 else place

    order = sorted(records, key=lambda record: hashlib.sha256(f"{seed} {record['image_id']}".encode()).digest())
    chosen = {id(record) for record in order[edge(begin) : edge(end)]}
    return [record for record in records if id(record) in chosen]
