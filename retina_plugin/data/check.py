"""Everything that is wrong with a dataset, found in one go."""

import hashlib
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np

from detectron2.structures import BoxMode
from tqdm import tqdm

from retina_plugin.data.card import DatasetCard, dataset_problems
from retina_plugin.data.image_files import defect_of, size_of
from retina_plugin.data.problems import Problem

LARGEST_SIDE, SMALLEST_SIDE, MOST_STRETCHED = 10_000, 16, 10
"""Images beyond these (pixels; longer side / shorter side) are reported."""

ERRORS = {
    "reading": "annotations that cannot be used as they are",
    "image": "images that cannot be read",
    "size": "images of another size than their annotations say",
    "split": "images that are in two splits",
    "twice": "images that are twice in a split",
    "empty": "splits without anything to train on",
}
WARNINGS = {
    "exif": "images that their EXIF data turns",
    "duplicate": "boxes that are there twice",
    "unused": "classes without a box",
    "unlabelled": "images without objects",
    "extreme": "images of extreme size or shape",
    "tiny": "boxes of which an image at network resolution shows next to nothing",
}
GROUPS = {**ERRORS, **WARNINGS}
"""Kinds of findings; those of ``ERRORS`` make the check fail."""

MEND = {
    "reading": "mend the annotations, or let --fix leave out what each line says",
    "image": "copy the images again, or take them out of the annotations (--fix does)",
    "size": "give the annotations the size of the image as it is shown (--fix does, where the boxes fit), or resize the image back",
    "split": "leave each image in one split only: the score on images that were trained on means nothing (--fix takes them out of the later split)",
    "twice": "leave one of them (--fix does)",
    "empty": "see what was left out above",
    "exif": "nothing, if the boxes were drawn on the image as it is shown; the plugin turns it as its EXIF data says",
    "duplicate": "leave one of them (--fix does)",
    "unused": "take the class out of the card, or see that its name is spelled alike everywhere",
    "unlabelled": "nothing, if they show no object: DATALOADER.FILTER_EMPTY_ANNOTATIONS and EMPTY_IMAGES say whether they are trained on",
    "extreme": "nothing, if they are meant so; MAX_SIZE_TRAIN and MIN_SIZE_TRAIN say what becomes of them",
    "tiny": "`retina data anchors` shows whether the network can find them",
}

TINY = 2.0
"""Pixels of the original image; a box with a shorter side is reported."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd: its group in ``GROUPS``, the split it is in, and the problem."""

    group: str
    split: str
    problem: Problem


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        card: of the dataset.
        images, boxes: by split, those that can be used.
        findings: all of them.
        records: by split, Detectron2's dataset dicts without what was left out while reading.
    """

    card: DatasetCard
    images: dict[str, int] = field(default_factory=dict)
    boxes: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    records: dict[str, list[dict]] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether there is an error among the findings."""
        return any(finding.group in ERRORS for finding in self.findings)

    def text(self, *, most: int = 20) -> str:
        """By group: how many, how to mend them, and the first ``most`` with file and id (0: all)."""
        lines = [f"{self.card.name} ({self.card.format}, {self.card.root_path()}): " + ", ".join(f"{split} {self.images[split]} images with {self.boxes[split]} boxes" for split in self.images)]
        for group, title in GROUPS.items():
            found = [finding for finding in self.findings if finding.group == group]
            if not found:
                continue
            lines += ["", f"{'ERROR' if group in ERRORS else 'warning'}: {len(found)} {title}", f"  to mend: {MEND[group]}"]
            lines += [f"  {finding.split}: {finding.problem}" for finding in found[: most or None]]
            if most and len(found) > most:
                lines.append(f"  and {len(found) - most} more (--all shows them)")
        errors = sum(finding.group in ERRORS for finding in self.findings)
        return "\n".join([*lines, "", f"{errors} errors, {len(self.findings) - errors} warnings"])


def check_card(card: DatasetCard, *, progress: bool = True, workers: int | None = None) -> CheckReport:
    """Read all annotations and decode all images of a dataset, and report everything that is wrong or odd.

    Args:
        card: need not be registered.
        progress: show a bar.
        workers: threads that decode; None: as many as there are processors.

    Raises:
        FileNotFoundError: the data is not there.
    """
    report = CheckReport(card)
    for split in card.splits:
        try:
            report.records[split] = card.load(split)
            problems = dataset_problems(f"{card.name}_{split}")
        except (ValueError, FileNotFoundError) as error:
            if not card.root_path().exists():
                raise
            report.records[split], problems = [], [Problem(str(card.file), str(error), done="nothing of this split can be used")]
        report.findings += [Finding(_group_of(problem), split, problem) for problem in problems]
    looks = _look_at_images(report.records, progress=progress, workers=workers)
    for split, records in report.records.items():
        _check_images(report, split, records, looks)
        _check_boxes(report, split, records)
    _check_contents(report, looks)
    _check_classes(report)
    for split, records in report.records.items():
        report.images[split] = len(records)
        report.boxes[split] = sum(len(record["annotations"]) for record in records)
        if not report.boxes[split]:
            report.findings.append(Finding("empty", split, Problem(str(card.file), f"{len(records)} images and not a single usable box")))
    return report


def _group_of(problem: Problem) -> str:
    """The group of a problem that a reader found: an image that is missing or broken is no annotation."""
    return "image" if "does not exist" in problem.what or "cannot be read" in problem.what else "reading"


@dataclass(frozen=True)
class _Look:
    """What an image file is: (height, width) as shown, hash of its pixels, whether EXIF turns it, or why it cannot be read."""

    size: tuple[int, int] | None = None
    digest: str = ""
    turned: bool = False
    error: str = ""


def _look(file: str) -> _Look:
    if defect := defect_of(file):
        return _Look(error=defect)
    shown, plain = size_of(file), cv2.imdecode(np.fromfile(file, dtype=np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if plain is None:
        return _Look(error="cannot be decoded")
    digest = hashlib.sha256(np.ascontiguousarray(plain).tobytes() + str(plain.shape).encode()).hexdigest()
    return _Look(size=shown, digest=digest, turned=tuple(plain.shape[:2]) != shown)


def _look_at_images(records: dict[str, list[dict]], *, progress: bool, workers: int | None) -> dict[str, _Look]:
    files = list(dict.fromkeys(record["file_name"] for split in records.values() for record in split))
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:  # OpenCV decodes outside of Python's lock
        return dict(zip(files, tqdm(pool.map(_look, files), total=len(files), desc="images", disable=not progress), strict=True))


def _check_images(report: CheckReport, split: str, records: list[dict], looks: dict[str, _Look]) -> None:
    def add(group: str, record: dict, what: str, done: str = "kept") -> None:
        report.findings.append(Finding(group, split, Problem(record["file_name"], what, record["image_id"], done=done)))

    for record in records:
        look, said = looks[record["file_name"]], (record["height"], record["width"])
        if look.error:
            add("image", record, look.error, "training would stop at it")
            continue
        h, w = look.size
        if look.size != said:
            turned = "; turned, they would agree" if (w, h) == said else ""
            add("size", record, f"is {w}x{h}, but the annotations say {said[1]}x{said[0]}{turned}", "training would stop at it")
        elif look.turned:
            add("exif", record, f"is shown as {w}x{h}, turned")
        if max(h, w) > LARGEST_SIDE or min(h, w) < SMALLEST_SIDE or max(h, w) > MOST_STRETCHED * min(h, w):
            add("extreme", record, f"is {w}x{h}")
        if not record["annotations"]:
            add("unlabelled", record, "has no usable box")


def _check_boxes(report: CheckReport, split: str, records: list[dict]) -> None:
    for record in records:
        seen: Counter = Counter()
        for number, annotation in enumerate(record["annotations"], start=1):
            box = tuple(round(v, 2) for v in BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS))
            seen[box, annotation["category_id"]] += 1
            name = report.card.classes[annotation["category_id"]]
            if seen[box, annotation["category_id"]] == 2:
                report.findings.append(Finding("duplicate", split, Problem(record["file_name"], f"box {list(box)} of {name!r} is there twice", record["image_id"], number, "kept")))
            if min(box[2] - box[0], box[3] - box[1]) < TINY:
                report.findings.append(Finding("tiny", split, Problem(record["file_name"], f"box {list(box)} of {name!r} is {box[2] - box[0]:g} x {box[3] - box[1]:g} pixels", record["image_id"], number, "kept")))


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
            report.findings.append(Finding("twice" if split == first_split else "split", split, Problem(record["file_name"], what, record["image_id"], done="kept")))


def _check_classes(report: CheckReport) -> None:
    """Classes that no box of a split has."""
    for split, records in report.records.items():
        used = {annotation["category_id"] for record in records for annotation in record["annotations"]}
        unused = [name for label, name in enumerate(report.card.classes) if label not in used]
        if used and unused:
            report.findings.append(Finding("unused", split, Problem(str(report.card.file), f"no box has the class {', '.join(map(repr, unused))}", done="kept")))
