"""Collect the images and boxes of a source, check them, and turn them into Detectron2's dataset dicts."""

import math
import os
from array import array
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from retina_plugin.data.boxes import checked_boxes, fault_of
from retina_plugin.data.files import ImageFinder
from retina_plugin.data.formats.image_sizes import Look, resolve_sizes
from retina_plugin.data.problems import Kind, Problem, shown
from retina_plugin.data.values import as_name

Source = dict[str, Any]
"""One part of a split: the paths, relative to the root of the dataset, and the options that its format needs."""

Size = tuple[int | None, int | None]
"""(height, width) in pixels; None where the annotations do not state it."""

MOST_CLASSES_SHOWN = 20

XYXY_ABS = 0
"""Value of Detectron2's ``BoxMode.XYXY_ABS``, which is an integer; data is read without detectron2 as well."""


class Reading:
    """Collects the images and boxes of one source, whatever its format, and reports everything that it leaves out.

    Args:
        root: folder of the dataset.
        classes: class names; their order defines the labels 0..K-1.
        source: one source of the card.
        split: name of the split, to recognise folders of other splits.
        outside: whether annotations may name files outside the root.

    Attributes:
        records: Detectron2's dataset dicts; "height" and "width" are None until :meth:`finish` if the annotations do
            not state them.
        problems: everything that was left out or changed.
        total: number of boxes in the files, good or bad.
        files: annotation files that were read.
        metadata: attributes for the dataset's entry in Detectron2's ``MetadataCatalog``.
        labels: label of each class, by name.
        finder: finds the image files that the annotations name.
        fractions: whether boxes are in fractions of the image instead of pixels.
    """

    def __init__(
        self, root: Path, classes: list[str], source: Source, *, split: str | None = None, outside: bool = False
    ) -> None:
        self.root, self.classes, self.source, self.split = Path(root), classes, source, split
        self.records: list[dict] = []
        self.problems: list[Problem] = []
        self.total = 0
        self.files: set[str] = set()
        self.metadata: dict[str, Any] = {}
        self.labels = {name: label for label, name in enumerate(classes)}
        places = [self.path("images")] if isinstance(source.get("images"), str) else []
        folders = [place if place.is_dir() else place.parent for place in places]
        self.finder = ImageFinder(self.root, folders, split=split, outside=outside)
        self.fractions = source.get("units") == "fractions"
        # One entry per box (four in _boxes) until finish(), in flat arrays: a large file has millions of boxes.
        self._boxes, self._areas = array("d"), array("d")
        self._owners, self._box_labels, self._crowd = array("q"), array("i"), bytearray()
        self._items: list[Any] = []
        self._file_of: list[str] = []  # annotation file of each record
        self._moved: list[tuple[str, str]] = []
        self._unknown: dict[tuple[str, str | None], int] = defaultdict(int)
        self._by_path: dict[str, int] = {}

    def path(self, key: str, *, default: str | None = None) -> Path:
        """Return the path that the source names under ``key``.

        Raises:
            ValueError: the source lacks the key, or its value is not a path.
            FileNotFoundError: the path does not exist.
        """
        value = self.source.get(key, default)
        if value is None:
            raise ValueError(f"the split has no {key!r}; it has {self.source}")
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(f"{key!r} must be a path, got {value!r}")
        path = self.root / value
        try:
            exists = path.exists()
        except OSError as error:
            raise ValueError(f"{path} cannot be accessed: {error.strerror}") from error
        if not exists:
            raise FileNotFoundError(f"{path} does not exist")
        return path

    def problem(
        self,
        kind: Kind,
        file: str | os.PathLike,
        what: str,
        image: Any = None,
        annotation: Any = None,
        done: str = "left out",
        *,
        boxes: int = 0,
        images: int = 0,
    ) -> None:
        """Report a problem; the ``boxes`` that are lost with it are added to ``total``."""
        self.total += boxes
        self._report(kind, str(file), what, image, annotation, done, boxes=boxes, images=images)

    def _report(
        self,
        kind: Kind,
        file: str,
        what: str,
        image: Any = None,
        annotation: Any = None,
        done: str = "left out",
        *,
        boxes: int = 0,
        images: int = 0,
    ) -> None:
        """Report a problem whose boxes are already part of ``total``."""
        self.problems.append(Problem(kind, file, what, image, annotation, done, boxes, images))

    def image(
        self, name: object, *, file: str, image_id: Any = None, size: Size = (None, None), boxes: int = 0
    ) -> int | None:
        """Add the image that the annotations name; a file that was added before is not added again.

        Args:
            name: name of the image in the annotations.
            file: annotation file that names it.
            image_id: id in the annotations; None: the path of the image relative to the root.
            size: size that the annotations state.
            boxes: number of boxes that are lost if the image does not exist.

        Returns:
            The number of the image, to be passed to :meth:`box`, or None if it was not found, which is reported.
        """
        try:
            path, exactly = self.finder.find(name, near=os.path.dirname(file))
        except LookupError as error:
            named = image_id if image_id is not None else shown(name)
            self.problem(Kind.MISSING, file, str(error), named, boxes=boxes, images=1)
            return None
        if not exactly:
            self._moved.append((str(name), path))
        return self.add_image(path, file=file, image_id=image_id, size=size)

    def add_image(self, path: str, *, file: str, image_id: Any = None, size: Size = (None, None)) -> int:
        """Add an image file that is known to exist, and return its number; see :meth:`image`."""
        if (number := self._by_path.get(path)) is not None:
            return number
        number = self._by_path[path] = len(self.records)
        if image_id is None:
            image_id = os.path.relpath(path, self.root).replace(os.sep, "/")
        height, width = size
        self.records.append(
            {"file_name": path, "height": height, "width": width, "image_id": image_id, "annotations": []}
        )
        self._file_of.append(file)
        return number

    def label_of(self, name: object, *, file: str) -> int | None:
        """Return the label of a class, or None if the card does not have it; its box then counts as lost."""
        name = as_name(name)
        label = self.labels.get(name) if name is not None else None
        if label is None:
            self._unknown[file, name] += 1
            self.total += 1
        return label

    def box(
        self, image: int, label: int, box: Iterable[float], *, item: Any, crowd: bool = False, area: float = math.nan
    ) -> None:
        """Add a box.

        Args:
            image: number of the image, from :meth:`image`.
            label: 0..K-1.
            box: XYXY, in pixels of the size that the annotations state, or in fractions of it if ``fractions`` is set.
            item: id or number of the annotation, for messages.
            crowd: whether the box is a crowd region.
            area: area of the object's mask in pixels, by which COCO distinguishes small, medium and large objects; NaN
                if unknown.
        """
        self.total += 1
        self._areas.append(area)
        self._boxes.extend(box)
        self._owners.append(image)
        self._box_labels.append(label)
        self._crowd.append(crowd)
        self._items.append(item)

    def finish(self, look: Look) -> None:
        """Set the size of every image, check all boxes, and add them to the records.

        Args:
            look: opens the image files.

        Raises:
            ValueError: all boxes look like fractions, but the source does not declare them as such.
        """
        if not self.fractions:
            self._refuse_fractions()
        self._report_unknown_classes()
        self._report_moved_images()
        sizes, scales = self._resolve_sizes(look)
        kept = np.isfinite(sizes[:, 0])
        owners = np.frombuffer(self._owners, dtype=np.int64) if self._owners else np.zeros(0, np.int64)
        boxes = np.frombuffer(self._boxes).reshape(-1, 4) if self._boxes else np.zeros((0, 4))
        factors = sizes[:, ::-1] if self.fractions else scales  # (N, 2): x, y
        with np.errstate(invalid="ignore", over="ignore"):
            boxes = boxes * np.concatenate([factors, factors], axis=1)[owners]
        clipped, fault, beyond = checked_boxes(boxes, sizes[owners])
        fault[~kept[owners]] = -1  # the image is left out, which has been reported
        if len(boxes):
            self._report_faults(boxes, sizes, fault, beyond)
        for i, box in zip(np.flatnonzero(fault == 0).tolist(), clipped[fault == 0].tolist(), strict=True):
            annotation = {"bbox": box, "bbox_mode": XYXY_ABS, "category_id": self._box_labels[i]}
            self.records[self._owners[i]]["annotations"].append({**annotation, "iscrowd": self._crowd[i]})
        self._add_areas(clipped, fault, scales)
        if not kept.all():
            self.records = [record for record, keep in zip(self.records, kept.tolist(), strict=True) if keep]
        del self._boxes, self._areas, self._owners, self._items

    def _report_unknown_classes(self) -> None:
        """Report each class that the card does not have, with the number of its boxes."""
        known = ", ".join(self.classes[:MOST_CLASSES_SHOWN])
        if len(self.classes) > MOST_CLASSES_SHOWN:
            known += ", ..."
        for (file, name), count in self._unknown.items():
            what = "class has no name" if name is None else f"class {name!r} is not one of the card's classes: {known}"
            done = f"{count} box{'es' if count > 1 else ''} left out"
            self._report(Kind.CLASSES, file, what, done=done, boxes=count)

    def _report_moved_images(self) -> None:
        """Report how many images are not exactly where the annotations say, with one example."""
        if not self._moved:
            return
        name, path = self._moved[0]
        example = f"{shown(name)} is {os.path.relpath(path, self.root)}"
        if len(self._moved) > 1:
            example += ", ..."
        file = self._file_of[0] if self._file_of else str(self.root)
        self._report(Kind.LOOKED_UP, file, f"{len(self._moved)} images were found elsewhere: {example}", done="used")

    def _refuse_fractions(self) -> None:
        """Refuse boxes that are all within 0..1: they are fractions, which a card has to declare.

        Raises:
            ValueError: all boxes of the source are fractions.
        """
        if not self._boxes:
            return
        values = np.frombuffer(self._boxes)
        values = values[np.isfinite(values)]
        if len(values) and values.max() <= 1 and values.min() >= 0 and (values != np.round(values)).any():
            raise ValueError(
                f"{self._file_of[0]}: all boxes are between 0 and 1, so they seem to be fractions of the image, but "
                "pixels are expected; if they are fractions, set `units: fractions` in the card's split"
            )

    def _resolve_sizes(self, look: Look) -> tuple[np.ndarray, np.ndarray]:
        """Determine the sizes of all images, and report what is wrong with them.

        Returns:
            ``sizes`` and ``scales`` of :class:`retina_plugin.data.formats.image_sizes.ImageSizes`.
        """
        count = len(self.records)
        boxes = [0] * count
        if self._owners:
            boxes = np.bincount(np.frombuffer(self._owners, dtype=np.int64), minlength=count).tolist()
        found = resolve_sizes(self.records, boxes, look)
        self.problems += found.problems
        if found.unstated and self.metadata.get("says_sizes"):
            what = f"{found.unstated} of {count} images have no usable width and height"
            self._report(Kind.RESIZED, self._file_of[0], what, done="taken from the files")
        return found.sizes, found.scales

    def _report_faults(self, boxes: np.ndarray, sizes: np.ndarray, fault: np.ndarray, beyond: np.ndarray) -> None:
        """Report the boxes that are left out and those that are clipped.

        Args:
            boxes: (M, 4) XYXY, pixels.
            sizes: (N, 2) height and width of the images.
            fault: (M,) see :func:`checked_boxes`; -1 for boxes whose image is left out.
            beyond: (M,) whether a box extends beyond its image.
        """
        for i in np.flatnonzero((fault > 0) | (beyond & (fault == 0))).tolist():
            owner = self._owners[i]
            file, image_id, size = self._file_of[owner], self.records[owner]["image_id"], sizes[owner]
            if fault[i]:
                what = fault_of(fault[i], boxes[i], size)
                self._report(Kind.ANNOTATION, file, what, image_id, self._items[i], boxes=1)
            else:
                box = [round(float(value), 2) for value in boxes[i]]
                what = f"box {box} extends beyond the image of {size[1]:g}x{size[0]:g}"
                self._report(Kind.CLIPPED, file, what, image_id, self._items[i], "clipped to it")

    def _add_areas(self, clipped: np.ndarray, fault: np.ndarray, scales: np.ndarray) -> None:
        """Set the mask area of the boxes for which it is known and differs from the area of the box.

        Args:
            clipped: (M, 4) XYXY, pixels.
            fault: (M,) 0 for boxes that are used.
            scales: (N, 2) factors (x, y) of the images.
        """
        if not self._areas:
            return
        owners = np.frombuffer(self._owners, dtype=np.int64)
        areas = np.frombuffer(self._areas) * scales[owners].prod(axis=1)
        of_box = (clipped[:, 2:] - clipped[:, :2]).prod(axis=1)
        with np.errstate(invalid="ignore"):
            plausible = np.isfinite(areas) & (areas > 0) & (areas <= of_box * 1.01 + 1)
            known = (plausible & (np.abs(areas - of_box) > 1)).tolist()  # and not merely the area of the box
        index = [0] * len(self.records)  # of the next box within each image
        for i in np.flatnonzero(fault == 0).tolist():
            owner = self._owners[i]
            if known[i]:
                self.records[owner]["annotations"][index[owner]]["area"] = float(areas[i])
            index[owner] += 1
