"""Prediction on many images: reading while the network computes, batches of similar images, results in order."""

import contextlib
import itertools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import cv2
import numpy as np

from retina_plugin.data.batching import POOL_BATCHES, best_fitting
from retina_plugin.inference.sources import CAMERA, Sources

if TYPE_CHECKING:  # an exported model is run without detectron2
    from detectron2.structures import Instances

FRAMES_AHEAD = 8
"""Frames of a video that are decoded ahead."""

FILES_AHEAD = 4
"""Files that each thread reads ahead."""

BROKEN = "broken"
"""Key of the record of a file that cannot be used: the reason."""


class Found(NamedTuple):
    """Detections of one image, by descending score.

    Args:
        boxes: (D, 4) float32, XYXY, pixels of the image.
        scores: (D,) float32, 0..1.
        labels: (D,) int64, 0..K-1.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@dataclass
class Prediction:
    """What was detected in an image.

    Attributes:
        name: path of the image; for a frame the path of its video.
        frame: number of the frame, from 0; None for an image.
        height, width: of the image as displayed, pixels; 0 if it could not be read.
        found: detections; None if the image could not be read.
        error: why it could not be read; "" if it could.
        pixels: (H, W, 3) uint8, BGR, of a frame; None for an image.
    """

    name: str
    frame: int | None = None
    height: int = 0
    width: int = 0
    found: Found | None = None
    error: str = ""
    pixels: np.ndarray | None = None

    @property
    def instances(self) -> "Instances | None":
        """The detections as Detectron2's ``Instances`` on the CPU; None if the image could not be read."""
        if self.found is None:
            return None
        import torch

        from detectron2.structures import Boxes, Instances

        boxes, scores, labels = (torch.from_numpy(x) for x in self.found)
        return Instances((self.height, self.width), pred_boxes=Boxes(boxes), scores=scores, pred_classes=labels)


class Predictor(Protocol):
    """What :func:`predict_stream` needs: a checkpoint in torch, or an exported model."""

    max_pixels: int
    """INPUT.MAX_IMAGE_PIXELS."""

    has_views: bool
    """Whether a record holds several views of its image, which take as much memory as the whole image or more."""

    def map_file(self, file: str) -> dict:
        """Return the record of an image file: "image", "height", "width" and what :meth:`run` needs.

        Raises:
            ImageError: the file cannot be used.
        """

    def map_array(self, image: np.ndarray, name: str) -> dict:
        """Return the record of an image (H, W, 3) uint8, BGR."""

    def run(self, records: list[dict], passed: Callable[[str], None]) -> list[Found]:
        """Return the detections of a batch; calls ``passed("network")`` when the network is done."""


@dataclass
class Timing:
    """Where the time of a prediction on many images went.

    Attributes:
        images: predicted so far.
        seconds: since the start, by "reading" (waiting for images), "network", "post-processing" and "other" (what
            the caller did with the predictions).
    """

    images: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: {"reading": 0.0, "network": 0.0, "post-processing": 0.0, "other": 0.0}
    )

    def __str__(self) -> str:
        """Return images per second and the shares of the parts, as text."""
        total = sum(self.seconds.values())
        if not total or not self.images:
            return "no images"
        shares = ", ".join(f"{name} {100 * part / total:.0f} %" for name, part in self.seconds.items())
        return f"{self.images / total:.1f} images/s ({shares})"


def predict_stream(
    predictor: Predictor,
    sources: Sources,
    *,
    batch_size: int = 4,
    workers: int | None = None,
    every: int = 1,
    timing: Timing | None = None,
) -> Iterator[Prediction]:
    """Predict on images and videos, in their order; what cannot be read is reported and costs nothing else.

    Images are read in ``workers`` threads while the network computes: OpenCV decodes and resizes without holding
    Python's lock. They are grouped into batches that need little padding.

    Args:
        predictor: a :class:`retina_plugin.inference.RetinaPredictor`, or an exported model.
        sources: from :func:`retina_plugin.inference.sources.find_sources`.
        batch_size: images that go through the network together.
        workers: threads that read images; None: one per two processor cores, at most four; 0: between batches.
        every: predict on every n-th frame of a video.
        timing: is updated.

    Yields:
        One :class:`Prediction` per image and per frame.
    """
    timing = timing if timing is not None else Timing()
    if predictor.has_views:  # they form batches of their own
        batch_size, workers = 1, min(_workers(workers), 1)
    if sources.images:
        ahead = 1 if predictor.has_views else FILES_AHEAD
        records = _records(predictor, sources.images, workers=_workers(workers), ahead=ahead)
        pool = 1 if predictor.has_views else batch_size * POOL_BATCHES
        yield from _predictions(predictor, records, batch_size=batch_size, pool=pool, timing=timing)
    for video in sources.videos:
        frames = _frames(predictor, video, every=every)
        yield from _predictions(predictor, frames, batch_size=batch_size, pool=batch_size, timing=timing)


def _workers(wanted: int | None) -> int:
    """Return the number of reading threads."""
    return max(1, min(4, (os.cpu_count() or 2) // 2)) if wanted is None else wanted


def _records(
    predictor: Predictor, files: Sequence[str], *, workers: int, ahead: int
) -> Iterator[tuple[Prediction, dict]]:
    """Yield the record of each file in order; the record of one that cannot be used has only ``BROKEN``.

    Args:
        predictor: reads the files.
        files: paths.
        workers: threads; 0: none.
        ahead: files that each thread reads ahead.
    """

    def read(file: str) -> dict:
        """Return the record of a file."""
        try:
            return predictor.map_file(file)
        except (OSError, ValueError, cv2.error) as error:
            return {BROKEN: getattr(error, "reason", None) or str(error)}

    if not workers:
        yield from ((Prediction(file), read(file)) for file in files)
        return
    waiting: deque[tuple[str, Future[dict]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as threads:
        try:
            for file in files:
                waiting.append((file, threads.submit(read, file)))
                if len(waiting) > workers * ahead:
                    name, record = waiting.popleft()
                    yield Prediction(name), record.result()
            while waiting:
                name, record = waiting.popleft()
                yield Prediction(name), record.result()
        finally:
            for _, record in waiting:
                record.cancel()


def _predictions(
    predictor: Predictor,
    records: Iterable[tuple[Prediction, dict]],
    *,
    batch_size: int,
    pool: int,
    timing: Timing,
) -> Iterator[Prediction]:
    """Yield the predictions of records in their order.

    Records wait in a pool, from which the oldest and those that fit it best form a batch; finished predictions wait
    until all before them are finished.
    """
    stream = iter(records)
    waiting: list[tuple[int, Prediction, dict]] = []
    finished: dict[int, Prediction] = {}
    numbers, due, ended = itertools.count(), 0, False
    clock = time.perf_counter()

    def passed(part: str) -> None:
        """Count the time since the last call towards a part."""
        nonlocal clock
        now = time.perf_counter()
        timing.seconds[part] += now - clock
        clock = now

    while not ended or waiting:
        while not ended and len(waiting) < pool:
            item = next(stream, None)
            if item is None:
                ended = True
                break
            prediction, record = item
            number = next(numbers)
            if broken := record.get(BROKEN):
                prediction.error = broken
                finished[number] = prediction
            else:
                waiting.append((number, prediction, record))
        passed("reading")
        if waiting:
            chosen = best_fitting([record["image"].shape[-2:] for *_, record in waiting], batch_size)
            batch = [waiting[i] for i in chosen]
            waiting = [item for i, item in enumerate(waiting) if i not in set(chosen)]
            outputs = predictor.run([record for *_, record in batch], passed)
            for (number, prediction, record), found in zip(batch, outputs, strict=True):
                prediction.found = found
                prediction.height, prediction.width = record["height"], record["width"]
                finished[number] = prediction
            timing.images += len(batch)
            passed("post-processing")
        while due in finished:
            yield finished.pop(due)
            due += 1
        passed("other")


def _frames(predictor: Predictor, video: str, *, every: int) -> Iterator[tuple[Prediction, dict]]:
    """Yield the mapped frames of a video, decoded in a thread."""
    frames: queue.Queue = queue.Queue(FRAMES_AHEAD)
    stop = threading.Event()

    def put(item: object) -> None:
        """Wait for room, unless nobody reads any more."""
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                frames.put(item, timeout=0.2)
                return

    def decode() -> None:
        """Decode all frames."""
        capture = cv2.VideoCapture(int(video.removeprefix(CAMERA)) if video.startswith(CAMERA) else video)
        try:
            number = 0
            while not stop.is_set() and capture.grab():
                if number % every == 0:
                    read, pixels = capture.retrieve()
                    if read:
                        put((number, pixels))
                number += 1
            if not number:
                put("is not a video that OpenCV can read")
        finally:
            capture.release()
            put(None)

    thread = threading.Thread(target=decode, daemon=True)
    thread.start()
    try:
        while (item := frames.get()) is not None:
            if isinstance(item, str):
                yield Prediction(video), {BROKEN: item}
                continue
            number, pixels = item
            record = predictor.map_array(pixels, f"frame {number} of {video}")
            yield Prediction(video, frame=number, pixels=pixels), record
    finally:
        stop.set()
        thread.join()
