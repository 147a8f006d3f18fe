"""Everything that is wrong with a dataset, found in one go."""

import hashlib
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from tqdm import tqdm

from detectron2.structures import BoxMode

from retina_plugin.data.account import Account, account_of
from retina_plugin.data.card import DatasetCard, classes_alike
from retina_plugin.data.image_files import MAX_IMAGE_PIXELS
from retina_plugin.data.image_headers import ImageFile
from retina_plugin.data.load import LoadResult, load_split
from retina_plugin.data.pixels import PixelRange, decode, is_deep
from retina_plugin.data.problems import Kind, Problem

LARGEST_SIDE, SMALLEST_SIDE, MOST_STRETCHED = 10_000, 16, 10
"""Images beyond these (pixels; longer side / shorter side) are reported."""

TINY = 2.0
"""Pixels; a box with a shorter side is reported."""

EVERY_SECONDS = 10
"""Between two lines about progress where there is no terminal to draw a bar on."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd, and the split it is in."""

    split: str
    problem: Problem


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        card: of the dataset.
        results: by split, what is used of it.
        findings: all of them.
        account: of the whole dataset.
    """

    card: DatasetCard
    results: dict[str, LoadResult] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    account: Account | None = None

    @property
    def records(self) -> dict[str, list[dict]]:
        """By split, Detectron2's dataset dicts without what was left out."""
        return {split: result.records for split, result in self.results.items()}

    @property
    def failed(self) -> bool:
        """Whether there is an error among the findings."""
        return any(finding.problem.kind.is_error for finding in self.findings)

    def add(self, split: str, *problem, **more) -> None:
        """Add a finding; the arguments are those of :class:`Problem`."""
        self.findings.append(Finding(split, Problem(*problem, **more)))

    def text(self, *, most: int = 20) -> str:
        """The account, then by kind: how many, how to mend them, and the first ``most`` with file and id (0: all)."""
        lines = [
            f"{self.card.name} ({self.card.format}, {self.card.root_path()})",
            self.account.text() if self.account else "",
        ]
        for kind in Kind:
            found = [finding for finding in self.findings if finding.problem.kind is kind]
            if not found:
                continue
            lines += [
                "",
                f"{'ERROR' if kind.is_error else 'warning'}: {len(found)} {kind.title}",
                f"  to mend: {kind.fix}",
            ]
            lines += [f"  {finding.split}: {finding.problem}" for finding in found[: most or None]]
            if most and len(found) > most:
                lines.append(f"  and {len(found) - most} more (--all shows them)")
        errors = sum(finding.problem.kind.is_error for finding in self.findings)
        return "\n".join([*lines, "", f"{errors} errors, {len(self.findings) - errors} warnings"])


def check_card(
    card: DatasetCard,
    *,
    progress: bool = True,
    workers: int | None = None,
    most_objects: int = 100,
    shortest: int | None = None,
    longest: int | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> CheckReport:
    """Read all annotations and decode all images of a dataset, and report everything that is wrong or odd.

    Args:
        card: need not be registered.
        progress: show a bar, or a line now and then where there is no terminal.
        workers: threads that decode; None: as many as there are processors.
        most_objects: TEST.DETECTIONS_PER_IMAGE.
        shortest: side of the network's input, pixels, at which boxes are measured; None: as they are.
        longest: most pixels of the other side there; an image of which nothing is left is reported.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.

    Raises:
        FileNotFoundError: the data is not there.
    """
    report = CheckReport(card)
    for split in card.splits:
        try:
            report.results[split] = load_split(card, split, max_pixels=max_pixels)
        except (ValueError, FileNotFoundError) as error:
            if not os.path.exists(card.root_path()):
                raise
            report.results[split] = LoadResult(
                f"{card.name}_{split}",
                problems=[Problem(Kind.FILE, str(card.file), str(error), done="nothing of this split can be used")],
            )
        report.findings += [Finding(split, problem) for problem in report.results[split].problems]
    looks = _decode_all(report.records, progress=progress, workers=workers, max_pixels=max_pixels)
    for split, records in report.records.items():
        _check_images(report, split, records, looks, shortest=shortest, longest=longest)
        _check_boxes(report, split, records, most_objects=most_objects, shortest=shortest)
        if not any(not x["iscrowd"] for record in records for x in record["annotations"]):
            crowd = " that is no crowd" if any(record["annotations"] for record in records) else ""
            report.add(split, Kind.EMPTY, str(card.file), f"{len(records)} images and not a single usable box{crowd}")
    _check_contents(report, looks)
    _check_classes(report)
    report.account = account_of(card, report.results)
    for file, why in report.account.unused.items():
        report.add("all", Kind.UNUSED_FILE, file, why, done="not used")
    return report


@dataclass(frozen=True)
class _Look:
    """What an image file is: (height, width) as shown, hash of its pixels, whether EXIF turns it, bands and bits, or why it cannot be read."""

    size: tuple[int, int] | None = None
    digest: str = ""
    turned: bool = False
    channels: int = 3
    bits: int = 8
    error: str = ""


def _decode(file: str, *, max_pixels: int) -> _Look:
    """Decode an image as training does."""
    try:
        with ImageFile(file, max_pixels=max_pixels) as image:
            header = image.header
            pixels = decode(image, "BGR", value_range=PixelRange(0, 255))
            # Of deep images the range would make different ones alike.
            content = image.whole() if is_deep(header) else np.ascontiguousarray(pixels).data
    except (OSError, ValueError) as error:
        return _Look(error=getattr(error, "reason", "") or f"cannot be decoded: {error}")
    digest = hashlib.sha256(content)
    digest.update(str(pixels.shape).encode())
    return _Look(
        (header.height, header.width), digest.hexdigest(), header.orientation > 1, header.channels, header.bits
    )


def _decode_all(
    records: dict[str, list[dict]], *, progress: bool, workers: int | None, max_pixels: int
) -> dict[str, _Look]:
    files = list(dict.fromkeys(record["file_name"] for split in records.values() for record in split))
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:  # OpenCV decodes outside of Python's lock
        looks = pool.map(partial(_decode, max_pixels=max_pixels), files)
        return dict(
            zip(files, shown_progress(looks, total=len(files), what="images") if progress else looks, strict=True)
        )


def shown_progress(items: Iterable, *, total: int, what: str) -> Iterator:
    """The items, with a bar on a terminal, and a line every ``EVERY_SECONDS`` seconds where the output goes elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what)
        return
    begin = said = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - said > EVERY_SECONDS or (number == total and said > begin):
            said = now
            print(f"{what}: {number} of {total}, {number / (now - begin):.0f} per second", file=sys.stderr, flush=True)


def _check_images(
    report: CheckReport,
    split: str,
    records: list[dict],
    looks: dict[str, _Look],
    *,
    shortest: int | None,
    longest: int | None,
) -> None:
    for record in records:
        look, file = looks[record["file_name"]], record["file_name"]
        if look.error:
            report.add(
                split, Kind.IMAGE, file, look.error, record["image_id"], done="left out of training as soon as it fails"
            )
            continue
        h, w = look.size
        if look.turned:
            report.add(split, Kind.EXIF, file, f"is shown as {w}x{h}, turned", record["image_id"], done="kept")
        if look.channels > 4 or look.bits > 8:
            what = (f"has {look.channels} bands, of which the first three are taken" if look.channels > 4 else "") + (
                f"has {look.bits} bits, which are scaled to 8" if look.bits > 8 else ""
            )
            report.add(split, Kind.PIXELS, file, what, record["image_id"], done="kept")
        if shortest and longest and min(h, w) * min(shortest / min(h, w), longest / max(h, w)) < 0.5:
            report.add(
                split,
                Kind.IMAGE,
                file,
                f"is {w}x{h}, of which nothing is left at {shortest} px with a longer side of at most {longest}",
                record["image_id"],
                done="left out of training",
            )
        elif max(h, w) > LARGEST_SIDE or min(h, w) < SMALLEST_SIDE or max(h, w) > MOST_STRETCHED * min(h, w):
            report.add(split, Kind.EXTREME, file, f"is {w}x{h}", record["image_id"], done="kept")
        if not record["annotations"]:
            report.add(split, Kind.UNLABELLED, file, "has no usable box", record["image_id"], done="kept")


def _check_boxes(
    report: CheckReport, split: str, records: list[dict], *, most_objects: int, shortest: int | None
) -> None:
    for record in records:
        seen: Counter = Counter()
        scale = shortest / min(record["height"], record["width"]) if shortest else 1.0
        if len(record["annotations"]) > most_objects:
            report.add(
                split,
                Kind.CROWDED,
                record["file_name"],
                f"has {len(record['annotations'])} boxes; TEST.DETECTIONS_PER_IMAGE is {most_objects}",
                record["image_id"],
                done="kept",
            )
        for number, annotation in enumerate(record["annotations"], start=1):
            box = tuple(
                round(v, 2) for v in BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            )
            seen[box, annotation["category_id"]] += 1
            name = report.card.classes[annotation["category_id"]]
            if seen[box, annotation["category_id"]] == 2:
                report.add(
                    split,
                    Kind.DUPLICATE,
                    record["file_name"],
                    f"box {list(box)} of {name!r} is there twice",
                    record["image_id"],
                    number,
                    "kept",
                )
            w, h = box[2] - box[0], box[3] - box[1]
            if min(w, h) * scale < TINY:
                at = f", {w * scale:.2g} x {h * scale:.2g} at {shortest} px" if shortest else ""
                report.add(
                    split,
                    Kind.TINY,
                    record["file_name"],
                    f"box {list(box)} of {name!r} is {w:g} x {h:g} pixels{at}",
                    record["image_id"],
                    number,
                    "kept",
                )


def _check_contents(report: CheckReport, looks: dict[str, _Look]) -> None:
    """Images with the same pixels, in one split or in two."""
    places = defaultdict(list)
    for split, records in report.records.items():
        for record in records:
            if digest := looks[record["file_name"]].digest:
                places[digest].append((split, record))
    for same in places.values():
        first_split, first = same[0]
        for split, record in same[1:]:
            what = f"shows the same as {first['file_name']}" + (f" of {first_split}" if split != first_split else "")
            report.add(
                split,
                Kind.TWICE if split == first_split else Kind.SPLIT,
                record["file_name"],
                what,
                record["image_id"],
                done="kept",
            )


def _check_classes(report: CheckReport) -> None:
    """Classes that no box of a split has, and classes that are spelled almost alike."""
    for split, records in report.records.items():
        used = {annotation["category_id"] for record in records for annotation in record["annotations"]}
        unused = [name for label, name in enumerate(report.card.classes) if label not in used]
        if used and unused:
            report.add(
                split,
                Kind.UNUSED_CLASS,
                str(report.card.file),
                f"no box has the class {', '.join(map(repr, unused))}",
                done="kept",
            )
    for line in classes_alike(report.card.classes):
        report.add("all", Kind.SPELLING, str(report.card.file), line, done="kept apart")
