"""Checks a dataset and reports everything that is wrong or odd in one run."""

import hashlib
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

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
"""Images beyond these limits (pixels, pixels, longer side / shorter side) are reported."""

TINY = 2.0
"""Boxes with a side shorter than this, in pixels, are reported."""

EVERY_SECONDS = 10
"""Seconds between two lines about progress if the output is not a terminal."""

T = TypeVar("T")


@dataclass(frozen=True)
class Finding:
    """A problem and the split it is in."""

    split: str
    problem: Problem


@dataclass
class CheckReport:
    """The result of a check.

    Attributes:
        card: of the dataset.
        results: the data that is used, by split.
        findings: all problems.
        account: of the whole dataset.
    """

    card: DatasetCard
    results: dict[str, LoadResult] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    account: Account | None = None

    @property
    def records(self) -> dict[str, list[dict]]:
        """Return Detectron2's dataset dicts by split, without what was left out."""
        return {split: result.records for split, result in self.results.items()}

    @property
    def failed(self) -> bool:
        """Return whether there is an error among the findings."""
        return any(finding.problem.kind.is_error for finding in self.findings)

    def add(self, split: str, *problem: Any, **more: Any) -> None:
        """Add a finding; the arguments after ``split`` are those of :class:`Problem`."""
        self.findings.append(Finding(split, Problem(*problem, **more)))

    def text(self, *, most: int = 20) -> str:
        """Return the account, then for each kind the number of findings, how to fix them, and a list.

        Args:
            most: findings to list per kind, each with file and id; 0 lists all.
        """
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
                f"  fix: {kind.fix}",
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
        progress: show a progress bar, or a line every ``EVERY_SECONDS`` seconds if the output is not a terminal.
        workers: threads that decode; None for one per processor.
        most_objects: TEST.DETECTIONS_PER_IMAGE.
        shortest: shorter side of the network input, pixels, at which boxes are measured; None measures them unscaled.
        longest: limit of the longer side of the network input, pixels; an image of which no pixels would be left is
            reported.
        max_pixels: INPUT.MAX_IMAGE_PIXELS.

    Raises:
        FileNotFoundError: the folder of the data does not exist.
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
        annotations = [x for record in records for x in record["annotations"]]
        if all(x["iscrowd"] for x in annotations):
            usable = "a box that is not a crowd" if annotations else "a single usable box"
            report.add(split, Kind.EMPTY, str(card.file), f"{len(records)} images without {usable}")
    _check_contents(report, looks)
    _check_classes(report)
    report.account = account_of(card, report.results)
    for file, why in report.account.unused.items():
        report.add("all", Kind.UNUSED_FILE, file, why, done="not used")
    return report


@dataclass(frozen=True)
class _Look:
    """What decoding an image file showed.

    Args:
        size: (height, width) as displayed, pixels; None if it cannot be decoded.
        digest: hash of its pixels.
        turned: whether its EXIF orientation rotates or mirrors it.
        channels, bits: of the file.
        error: why it cannot be decoded.
    """

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
            # Scaling deep images to 8 bits could make different ones equal.
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
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:  # OpenCV releases the GIL while it decodes
        looks: Iterable[_Look] = pool.map(partial(_decode, max_pixels=max_pixels), files)
        if progress:
            looks = shown_progress(looks, total=len(files), what="images")
        return dict(zip(files, looks, strict=True))


def shown_progress(items: Iterable[T], *, total: int, what: str) -> Iterator[T]:
    """Yield the items and show progress on stderr: a bar on a terminal, else a line every ``EVERY_SECONDS`` seconds."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what)
        return
    start = shown = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown > EVERY_SECONDS or (number == total and shown > start):
            shown = now
            sys.stderr.write(f"{what}: {number} of {total}, {number / (now - start):.0f} per second\n")
            sys.stderr.flush()


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
        file, image_id, look = record["file_name"], record["image_id"], looks[record["file_name"]]
        if look.size is None:
            report.add(split, Kind.IMAGE, file, look.error, image_id, done="left out of training when it fails to load")
            continue
        h, w = look.size
        short, long = min(h, w), max(h, w)
        if look.turned:
            report.add(split, Kind.EXIF, file, f"is displayed as {w}x{h}, rotated or mirrored", image_id, done="kept")
        if unused := _unused_pixels(look):
            report.add(split, Kind.PIXELS, file, unused, image_id, done="kept")
        if shortest and longest and short * min(shortest / short, longest / long) < 0.5:
            what = f"is {w}x{h}, which leaves no pixels at {shortest} px with a longer side of at most {longest}"
            report.add(split, Kind.IMAGE, file, what, image_id, done="left out of training")
        elif long > LARGEST_SIDE or short < SMALLEST_SIDE or long > MOST_STRETCHED * short:
            report.add(split, Kind.EXTREME, file, f"is {w}x{h}", image_id, done="kept")
        if not record["annotations"]:
            report.add(split, Kind.UNLABELLED, file, "has no usable box", image_id, done="kept")


def _unused_pixels(look: _Look) -> str:
    """Report what of the pixels is not used: bands and bits; "" if all is."""
    parts = [f"has {look.channels} bands, of which the first three are used"] if look.channels > 4 else []
    if look.bits > 8:
        parts.append(f"has {look.bits} bits, which are scaled to 8")
    return " and ".join(parts)


def _check_boxes(
    report: CheckReport, split: str, records: list[dict], *, most_objects: int, shortest: int | None
) -> None:
    for record in records:
        file, image_id, annotations = record["file_name"], record["image_id"], record["annotations"]
        seen: Counter[tuple] = Counter()
        scale = shortest / min(record["height"], record["width"]) if shortest else 1.0
        if len(annotations) > most_objects:
            what = f"has {len(annotations)} boxes; TEST.DETECTIONS_PER_IMAGE is {most_objects}"
            report.add(split, Kind.CROWDED, file, what, image_id, done="kept")
        for number, annotation in enumerate(annotations, start=1):
            label = annotation["category_id"]
            corners = BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)
            box = [round(v, 2) for v in corners]
            name = f"box {box} of {report.card.classes[label]!r}"
            key = (*box, label)
            seen[key] += 1
            if seen[key] == 2:
                report.add(split, Kind.DUPLICATE, file, f"{name} occurs twice", image_id, number, "kept")
            w, h = box[2] - box[0], box[3] - box[1]
            if min(w, h) * scale < TINY:
                at = f", {w * scale:.2g} x {h * scale:.2g} at {shortest} px" if shortest else ""
                report.add(split, Kind.TINY, file, f"{name} is {w:g} x {h:g} pixels{at}", image_id, number, "kept")


def _check_contents(report: CheckReport, looks: dict[str, _Look]) -> None:
    """Find images with the same pixels, in one split or in two."""
    places: defaultdict[str, list[tuple[str, dict]]] = defaultdict(list)
    for split, records in report.records.items():
        for record in records:
            if digest := looks[record["file_name"]].digest:
                places[digest].append((split, record))
    for same in places.values():
        first_split, first = same[0]
        for split, record in same[1:]:
            kind, of = (Kind.TWICE, "") if split == first_split else (Kind.SPLIT, f" of {first_split}")
            what = f"has the same pixels as {first['file_name']}{of}"
            report.add(split, kind, record["file_name"], what, record["image_id"], done="kept")


def _check_classes(report: CheckReport) -> None:
    """Find classes that no box of a split has, and classes with almost the same spelling."""
    for split, records in report.records.items():
        used = {annotation["category_id"] for record in records for annotation in record["annotations"]}
        unused = [name for label, name in enumerate(report.card.classes) if label not in used]
        if used and unused:
            what = f"no box has the class {', '.join(map(repr, unused))}"
            report.add(split, Kind.UNUSED_CLASS, str(report.card.file), what, done="kept")
    for line in classes_alike(report.card.classes):
        report.add("all", Kind.SPELLING, str(report.card.file), line, done="kept as separate classes")
