"""Files of predictions: annotations in any format that can be written, pictures and videos."""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.export import writable, write_dataset
from retina_plugin.data.formats import FORMAT_REGISTRY
from retina_plugin.data.formats.coco import to_coco
from retina_plugin.data.formats.reading import XYXY_ABS
from retina_plugin.data.pixels import PixelRange, read_image
from retina_plugin.inference.stream import Prediction
from retina_plugin.report.drawing import draw_boxes

ONE_FILE = ("coco", "csv")
"""Formats that are one file; the others are datasets of several files in a folder of their own."""

NAME = "predictions"
"""Name of the files and of the datasets."""

FRAMES, PICTURES = "frames", "pictures"
"""Folders of the frames of videos as images, and of drawn pictures and videos."""

FALLBACK_RATE = 25.0
"""Frames per second of a video that does not tell."""


class PredictionFiles:
    """Collects predictions and writes them.

    Args:
        folder: empty or new.
        class_names: K names.
        formats: names of annotation formats, see :func:`retina_plugin.data.export.writable`.
        draw: also write pictures with the boxes drawn, and videos.
        value_range: INPUT.VALUE_RANGE, for pictures of images of more than 8 bits.
        origin: where the predictions come from, for the cards of datasets.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: a format cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        class_names: Sequence[str],
        *,
        formats: Sequence[str] = ("coco",),
        draw: bool = False,
        value_range: PixelRange | None = None,
        origin: str = "unknown",
    ) -> None:
        for name in formats:
            if name not in writable():
                raise ValueError(f"format {name!r} cannot be written; known: {', '.join(writable())}")
        self.folder, self.class_names = Path(folder), list(class_names)
        self.formats, self.draw, self.value_range, self.origin = tuple(formats), draw, value_range, origin
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise FileExistsError(f"{self.folder} is not empty; choose a different --output")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.records: list[dict] = []
        self.failed: list[Prediction] = []
        self._videos: dict[str, cv2.VideoWriter] = {}
        self._taken: set[str] = set()

    def add(self, found: Prediction) -> None:
        """Add the prediction of an image or a frame, and draw it."""
        if found.found is None:
            self.failed.append(found)
            return
        boxes = found.found.boxes.astype(float)
        scores, labels = found.found.scores.tolist(), found.found.labels.tolist()
        annotations = [
            {"bbox": box, "bbox_mode": XYXY_ABS, "category_id": label, "iscrowd": 0, "score": score}
            for box, label, score in zip(boxes.tolist(), labels, scores, strict=True)
        ]
        file = os.path.abspath(found.name) if found.frame is None else self._frame_file(found)
        self.records.append(
            {
                "file_name": file,
                "image_id": len(self.records) + 1,
                "height": found.height,
                "width": found.width,
                "annotations": annotations,
            }
        )
        if self.draw:
            self._draw(found, boxes, labels, scores)

    def _frame_file(self, found: Prediction) -> str:
        """Return the name of a frame; the frame becomes a file if a format needs one."""
        name = f"{Path(found.name).stem or 'camera'}_{found.frame:06d}.jpg"
        file = self.folder.absolute() / FRAMES / name
        if set(self.formats) - set(ONE_FILE):
            file.parent.mkdir(exist_ok=True)
            assert found.pixels is not None, "a frame has pixels"
            cv2.imwrite(str(file), found.pixels)
        return str(file)

    def _draw(self, found: Prediction, boxes: np.ndarray, labels: list[int], scores: list[float]) -> None:
        """Write a picture, or a frame of a video, with the boxes drawn."""
        image = (
            found.pixels if found.pixels is not None else read_image(found.name, "BGR", value_range=self.value_range)
        )
        texts = [f"{self.class_names[k]} {score:.2f}" for k, score in zip(labels, scores, strict=True)]
        drawn = draw_boxes(np.ascontiguousarray(image), boxes, texts, labels)
        folder = self.folder / PICTURES
        folder.mkdir(exist_ok=True)
        if found.frame is None:
            cv2.imwrite(str(folder / f"{self._unique(Path(found.name).stem)}.jpg"), drawn)
            return
        if found.name not in self._videos:
            rate = cv2.VideoCapture(found.name).get(cv2.CAP_PROP_FPS) if os.path.isfile(found.name) else 0.0
            file = folder / f"{self._unique(Path(found.name).stem or 'camera')}.mp4"
            code = cv2.VideoWriter.fourcc(*"mp4v")
            size = drawn.shape[1], drawn.shape[0]
            self._videos[found.name] = cv2.VideoWriter(str(file), code, rate or FALLBACK_RATE, size)
        self._videos[found.name].write(drawn)

    def _unique(self, stem: str) -> str:
        """Return a stem that no other picture has."""
        name, number = stem, 2
        while name.casefold() in self._taken:
            name, number = f"{stem}_{number}", number + 1
        self._taken.add(name.casefold())
        return name

    def close(self) -> list[Path]:
        """Write the annotations and end the videos.

        Returns:
            The files and folders that were written.
        """
        for writer in self._videos.values():
            writer.release()
        written = []
        for name in dict.fromkeys(self.formats):
            if name == "coco":
                file = self.folder / f"{NAME}.json"
                content = to_coco(self.records, self.class_names, relative_to=self.folder.absolute())
                file.write_bytes(msgspec.json.encode(content))
            elif name == "csv":
                FORMAT_REGISTRY.get("csv")().write({NAME: self.records}, self.class_names, self.folder.absolute())
                file = self.folder / f"{NAME}.csv"
            else:
                file = self.folder / name
                write_dataset(self._card(name), {"train": self.records}, file, name=NAME, format=name)
            written.append(file)
        if self.draw and (self.folder / PICTURES).is_dir():
            written.append(self.folder / PICTURES)
        return written

    def _card(self, name: str) -> DatasetCard:
        """Return the card of a dataset of predictions."""
        return DatasetCard(
            name=NAME,
            format=name,
            classes=self.class_names,
            splits={},
            root=str(self.folder),
            licence="unknown",
            source=f"predictions of {self.origin}",
        )
