"""The interface of an annotation format, and what all of them share: sane images and boxes."""

import math
import os
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detectron2.structures import BoxMode

from retina_plugin.data.boxes import checked_boxes, fault_of
from retina_plugin.data.files import ImageFinder, Listing
from retina_plugin.data.problems import Kind, Problem, shown
from retina_plugin.data.values import as_name
from retina_plugin.registry import SlotRegistry

FORMAT_REGISTRY = SlotRegistry("annotation format", "format (in the dataset card)")
"""Subclasses of :class:`AnnotationFormat`, in the order in which a folder is looked at."""

Source = dict[str, object]
"""Where one part of a split lies: the paths, relative to the root of the data set, that a format needs."""


@dataclass
class Refused:
    """A file that looks like annotations of a format and cannot be read as such."""

    file: str
    reason: str
    split: str | None = None


@dataclass
class Found:
    """What a format recognises in a folder.

    Args:
        classes: names in the order of the labels.
        splits: name of a split ("all" where none is named) to its sources.
        used: annotation files of these sources, relative to the root.
        refused: files that look like this format and cannot be read.
        unused: files of this format that are not taken, and why.
    """

    classes: list[str] = field(default_factory=list)
    splits: dict[str, list[Source]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    refused: list[Refused] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)

    def add(self, split: str | None, source: Source, files: Iterable[str], classes: Iterable[str] = ()) -> None:
        """Take one source, its files and its classes."""
        self.splits.setdefault(split or "all", []).append(source)
        self.used.update(files)
        self.classes += [name for name in dict.fromkeys(classes) if name not in self.classes]


class AnnotationFormat:
    """One way to write boxes down. Subclasses are registered in :data:`FORMAT_REGISTRY` and have no state.

    Attributes:
        name: in cards.
        title: what people call it.
    """

    name = ""
    title = ""

    def recognise(self, listing: Listing) -> Found:
        """Look whether the files of a folder are of this format; reads whatever it needs to be sure, and never raises for a file."""
        raise NotImplementedError

    def read(self, source: Source, reading: "Reading") -> None:
        """Read one source of a card through ``reading``.

        Raises:
            FileNotFoundError, ValueError: there is nothing to read at all; what is wrong in part goes to ``reading.problem``.
        """
        raise NotImplementedError

    def write(self, records: dict[str, list[dict]], classes: list[str], folder: Path) -> dict[str, list[Source]]:
        """Write cleaned records, by split, to an empty folder; return the splits of a card whose root is that folder.

        Raises:
            NotImplementedError: the format is only read.
        """
        raise NotImplementedError(f"{self.title} is read, not written")


Look = Callable[[list[str], list[bool]], list]
"""``look(files, needed)``: what each image file says, as something with ``height`` and ``width``, text that says why it cannot be used, or
None where it was not looked at; it is where ``needed``."""


class Reading:
    """Collects the images and boxes of one source, whatever its format; nothing that is wrong gets through, or is lost unseen.

    Args:
        root: folder of the data set.
        classes: names whose order gives the labels 0..K-1.
        source: of the card.
        split: name, to tell images of other splits.
        outside: whether files outside of the root may be named.

    Attributes:
        records: Detectron2's dataset dicts; "height" and "width" are None where the annotations do not say.
        problems: everything that was left out or changed.
        total: boxes that the files hold, good or bad.
        files: annotation files that were read.
        metadata: attributes for the dataset's entry in detectron2's ``MetadataCatalog``.
    """

    def __init__(
        self, root: Path, classes: list[str], source: Source, *, split: str | None = None, outside: bool = False
    ) -> None:
        self.root, self.classes, self.source, self.split = Path(root), classes, source, split
        self.records: list[dict] = []
        self.problems: list[Problem] = []
        self.total = 0
        self.files: set[str] = set()
        self.metadata: dict = {}
        self._labels = {name: label for label, name in enumerate(classes)}
        places = [self.path("images")] if isinstance(source.get("images"), str) else []
        self.finder = ImageFinder(
            self.root, [p if p.is_dir() else p.parent for p in places], split=split, outside=outside
        )
        self.fractions = source.get("units") == "fractions"
        self._boxes, self._area, self._owner, self._label, self._crowd = (
            array("d"),
            array("d"),
            array("q"),
            array("i"),
            bytearray(),
        )
        self._items: list = []
        self._file: list[str] = []
        self._moved: list[tuple[str, str]] = []
        self._unknown: dict[tuple[str, str], int] = defaultdict(int)
        self._by_path: dict[str, int] = {}

    def path(self, key: str, *, default: str | None = None) -> Path:
        """The path that the source names under ``key``.

        Raises:
            ValueError: the source lacks it, or it is no path.
            FileNotFoundError: it does not exist.
        """
        value = self.source.get(key, default)
        if value is None:
            raise ValueError(f"the split has no {key!r}; it says {self.source}")
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(f"{key!r} must be a path, got {value!r}")
        path = self.root / value
        try:
            exists = path.exists()
        except OSError as error:
            raise ValueError(f"{path} cannot be looked at: {error.strerror}") from error
        if not exists:
            raise FileNotFoundError(f"{path} does not exist")
        return path

    def problem(
        self,
        kind: Kind,
        file: str | os.PathLike,
        what: str,
        image=None,
        annotation=None,
        done: str = "left out",
        *,
        boxes: int = 0,
        images: int = 0,
    ) -> None:
        """Note what is wrong; ``boxes`` that are lost with it count as held by the files."""
        self.total += boxes
        self.problems.append(Problem(kind, str(file), what, image, annotation, done, boxes, images))

    def image(
        self,
        name: object,
        *,
        file: str,
        image_id=None,
        size: tuple[int | None, int | None] = (None, None),
        boxes: int = 0,
    ) -> int | None:
        """Take an image; the same file again is the same image.

        Args:
            name: as the annotations have it.
            file: annotations that name it.
            image_id: as the annotations have it; None: its path from the root.
            size: (height, width) that the annotations say; None where they do not.
            boxes: that are lost if the image is not there.

        Returns:
            Its number for :meth:`box`, or None: the problem is noted.
        """
        try:
            path, exactly = self.finder.find(name, near=os.path.dirname(file))
        except LookupError as error:
            self.problem(
                Kind.MISSING, file, str(error), image_id if image_id is not None else shown(name), boxes=boxes, images=1
            )
            return None
        if not exactly:
            self._moved.append((str(name), path))
        return self.add_image(path, file=file, image_id=image_id, size=size)

    def add_image(
        self, path: str, *, file: str, image_id=None, size: tuple[int | None, int | None] = (None, None)
    ) -> int:
        """Take an image file that is known to be there; see :meth:`image`."""
        if (number := self._by_path.get(path)) is not None:
            return number
        number = self._by_path[path] = len(self.records)
        if image_id is None:
            image_id = os.path.relpath(path, self.root).replace(os.sep, "/")
        self.records.append(
            {"file_name": path, "height": size[0], "width": size[1], "image_id": image_id, "annotations": []}
        )
        self._file.append(file)
        return number

    def label_of(self, name: object, *, file: str) -> int | None:
        """The label of a class; None for one that is not in the card, of which the boxes are counted as lost."""
        name = as_name(name)
        label = self._labels.get(name) if name is not None else None
        if label is None:
            self._unknown[file, "without a name" if name is None else name] += 1
            self.total += 1
        return label

    def box(
        self, image: int, label: int, box: Iterable[float], *, item: object, crowd: bool = False, area: float = math.nan
    ) -> None:
        """Take a box XYXY, in pixels of the size that the annotations say, or in fractions where the source is in these.

        ``area``, of the object's mask, pixels, is what COCO tells small, medium and large objects by.
        """
        self.total += 1
        self._area.append(area)
        self._boxes.extend(box)
        self._owner.append(image)
        self._label.append(label)
        self._crowd.append(crowd)
        self._items.append(item)

    def finish(self, look: "Look") -> None:
        """Give every image its size, check all boxes, and hand them to the records.

        Args:
            look: looks at the image files.

        Raises:
            ValueError: all boxes are fractions, and the source does not say so.
        """
        if not self.fractions:
            self._refuse_fractions()
        for (file, name), count in self._unknown.items():
            known = ", ".join(self.classes[:20]) + (", ..." if len(self.classes) > 20 else "")
            self.problems.append(
                Problem(
                    Kind.CLASSES,
                    file,
                    f"class {name!r} is not one of the card's: {known}"
                    if name != "without a name"
                    else "class has no name",
                    done=f"{count} box{'es' if count > 1 else ''} left out",
                    boxes=count,
                )
            )
        if self._moved:
            first = f"{shown(self._moved[0][0])} is {os.path.relpath(self._moved[0][1], self.root)}"
            self.problems.append(
                Problem(
                    Kind.LOOKED_UP,
                    self._file[0] if self._file else str(self.root),
                    f"{len(self._moved)} images were found elsewhere: {first}"
                    + (", ..." if len(self._moved) > 1 else ""),
                    done="used",
                )
            )
        sizes, scales = self._sizes(look)
        keep = np.isfinite(sizes[:, 0])
        owner = np.frombuffer(self._owner, dtype=np.int64) if self._owner else np.zeros(0, np.int64)
        boxes = np.frombuffer(self._boxes).reshape(-1, 4) if self._boxes else np.zeros((0, 4))
        with np.errstate(invalid="ignore", over="ignore"):
            boxes = (
                boxes
                * (
                    np.concatenate([sizes[:, ::-1], sizes[:, ::-1]], axis=1)
                    if self.fractions
                    else np.concatenate([scales, scales], axis=1)
                )[owner]
            )
        clipped, fault, beyond = checked_boxes(boxes, sizes[owner])
        fault[~keep[owner]] = -1  # their image is gone, which was said
        if len(boxes):
            self._say_what_is_wrong(boxes, sizes, owner, fault, beyond)
        records, owners, labels, crowds = self.records, self._owner, self._label, self._crowd
        for i, box in zip(np.flatnonzero(fault == 0).tolist(), clipped[fault == 0].tolist(), strict=True):
            records[owners[i]]["annotations"].append(
                {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": labels[i], "iscrowd": crowds[i]}
            )
        self._add_areas(clipped, fault, scales)
        if not keep.all():
            self.records = [record for record, kept in zip(records, keep.tolist(), strict=True) if kept]
        del self._boxes, self._area, self._owner, self._items

    def _add_areas(self, clipped: np.ndarray, fault: np.ndarray, scales: np.ndarray) -> None:
        """Give the boxes the area of their masks, where that is known and is not the box's."""
        if not self._area:
            return
        owner = np.frombuffer(self._owner, dtype=np.int64)
        area = np.frombuffer(self._area) * scales[owner].prod(axis=1)
        of_box = (clipped[:, 2:] - clipped[:, :2]).prod(axis=1)
        with np.errstate(invalid="ignore"):
            known = (
                (fault == 0)
                & np.isfinite(area)
                & (area > 0)
                & (np.abs(area - of_box) > 1)
                & (area <= of_box * 1.01 + 1)
            )
        position = np.zeros(len(owner), dtype=np.int64)  # of a box among those of its image
        counts: dict[int, int] = defaultdict(int)
        for i in np.flatnonzero(fault == 0).tolist():
            position[i] = counts[self._owner[i]]
            counts[self._owner[i]] += 1
        for i in np.flatnonzero(known).tolist():
            self.records[self._owner[i]]["annotations"][position[i]]["area"] = float(area[i])

    def _refuse_fractions(self) -> None:
        """Boxes of a whole source in 0..1 are fractions, which a card has to say.

        Raises:
            ValueError: it has not said so.
        """
        if not self._boxes:
            return
        values = np.frombuffer(self._boxes)
        values = values[np.isfinite(values)]
        if len(values) and values.max() <= 1 and values.min() >= 0 and (values != np.round(values)).any():
            raise ValueError(
                f"{self._file[0]}: all boxes are between 0 and 1, which are fractions of the image, where pixels are expected; `units: fractions` in the split of the card reads them so"
            )

    def _sizes(self, look: "Look") -> tuple[np.ndarray, np.ndarray]:
        """(N, 2) height and width of every image, NaN for one that is left out, and (N, 2) factors x, y for its boxes."""
        counts = (
            np.bincount(np.frombuffer(self._owner, dtype=np.int64), minlength=len(self.records)).tolist()
            if self._owner
            else [0] * len(self.records)
        )
        sizes, scales = np.full((len(self.records), 2), np.nan), np.ones((len(self.records), 2))
        unsaid = 0
        needed = [record["height"] is None or record["width"] is None for record in self.records]
        for i, (record, seen) in enumerate(
            zip(self.records, look([r["file_name"] for r in self.records], needed), strict=True)
        ):
            said = record["height"], record["width"]
            if isinstance(seen, str):
                self.problems.append(
                    Problem(Kind.IMAGE, record["file_name"], seen, record["image_id"], boxes=counts[i], images=1)
                )
                continue
            actual = said if seen is None else (seen.height, seen.width)
            if None in said:
                unsaid += 1
            elif actual != said:
                factor = same_shape(said, actual)
                what = f"is {actual[1]}x{actual[0]}, but the annotations say {said[1]}x{said[0]}"
                if factor is None:
                    turned = "; turned, they would agree" if actual == said[::-1] else ""
                    self.problems.append(
                        Problem(
                            Kind.SIZE, record["file_name"], what + turned, record["image_id"], boxes=counts[i], images=1
                        )
                    )
                    continue
                self.problems.append(
                    Problem(Kind.SCALED, record["file_name"], what, record["image_id"], done="boxes scaled")
                )
                scales[i] = factor
            sizes[i] = actual
            record["height"], record["width"] = actual
        if unsaid and self.metadata.get("says_sizes"):
            self.problems.append(
                Problem(
                    Kind.RESIZED,
                    self._file[0],
                    f"{unsaid} of {len(self.records)} images have no usable width and height",
                    done="taken from the files",
                )
            )
        return sizes, scales

    def _say_what_is_wrong(
        self, boxes: np.ndarray, sizes: np.ndarray, owner: np.ndarray, fault: np.ndarray, beyond: np.ndarray
    ) -> None:
        for i in np.flatnonzero((fault > 0) | (beyond & (fault == 0))).tolist():
            record, size = self.records[owner[i]], sizes[owner[i]]
            where = dict(image=record["image_id"], annotation=self._items[i])
            if fault[i]:
                self.problems.append(
                    Problem(Kind.ANNOTATION, self._file[owner[i]], fault_of(fault[i], boxes[i], size), **where, boxes=1)
                )
            else:
                box = [round(float(v), 2) for v in boxes[i]]
                self.problems.append(
                    Problem(
                        Kind.CLIPPED,
                        self._file[owner[i]],
                        f"box {box} reaches beyond the image of {size[1]:g}x{size[0]:g}",
                        **where,
                        done="clipped to it",
                    )
                )


def same_shape(said: tuple[int, int], actual: tuple[int, int]) -> tuple[float, float] | None:
    """Factors (x, y) from one size (height, width) to another, if the shape is the same up to a pixel of rounding.

    Example:
        >>> same_shape((480, 640), (240, 320)), same_shape((480, 640), (640, 480))
        ((0.5, 0.5), None)
    """
    fy, fx = actual[0] / said[0], actual[1] / said[1]
    if abs(actual[0] - said[0] * fx) <= max(1.0, fx) and abs(actual[1] - said[1] * fy) <= max(1.0, fy):
        return fx, fy
    return None


def with_unique_stems(records: list[dict]) -> dict[int, str]:
    """A name for the annotation file of each record, by ``id(record)``: the image's, with its folder where that is needed to tell two apart."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for record in records:
        path = Path(record["file_name"])
        name, depth = path.stem, 1
        while name.casefold() in taken and depth < len(path.parts) - 1:
            depth += 1
            name = "_".join([*path.parts[-depth:-1], path.stem])
        base, number = name, 2
        while name.casefold() in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name.casefold())
        names[id(record)] = name
    return names
