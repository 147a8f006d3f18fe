"""Prediction on many images: reading beside the network, batches of similar images, results in order."""

import contextlib
import itertools
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from detectron2.structures import Instances

from retina_plugin.data.image_files import read_header
from retina_plugin.data.loader import BROKEN, POOL_BATCHES, MarkBroken, best_fitting
from retina_plugin.inference.sources import CAMERA, Sources

FRAMES_AHEAD = 8
"""Frames of a video that are decoded ahead."""


@dataclass
class Prediction:
    """What was detected in an image.

    Attributes:
        name: path of the image; for a frame the path of its video.
        frame: number of the frame, from 0; None for an image.
        height, width: of the image as displayed, pixels; 0 if it could not be read.
        instances: detections on the CPU; None if the image could not be read.
        error: why it could not be read; "" if it could.
        pixels: (H, W, 3) uint8, BGR, of a frame; None for an image.
    """

    name: str
    frame: int | None = None
    height: int = 0
    width: int = 0
    instances: Instances | None = None
    error: str = ""
    pixels: np.ndarray | None = None


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


class ImageRecords(Dataset):
    """Image files as mapped records; one that cannot be read has ``BROKEN``.

    Args:
        files: paths.
        mapper: of a record with "file_name", "height" and "width".
        max_pixels: INPUT.MAX_IMAGE_PIXELS.
    """

    def __init__(self, files: Sequence[str], mapper: Callable[[dict], dict], *, max_pixels: int) -> None:
        self.files, self.max_pixels = files, max_pixels
        self.mapper = mapper
        self._map = MarkBroken(self._read)

    def _read(self, record: dict) -> dict:
        """Return the mapped record of a file."""
        header = read_header(record["file_name"], max_pixels=self.max_pixels)
        return self.mapper({**record, "height": header.height, "width": header.width})

    def __getitem__(self, index: int) -> dict:
        """Return the record of a file; never raises for a file that cannot be used."""
        return self._map({"file_name": self.files[index]})

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.files)


def predict_stream(
    predictor: Any,
    sources: Sources,
    *,
    batch_size: int = 4,
    workers: int | None = None,
    every: int = 1,
    timing: Timing | None = None,
) -> Iterator[Prediction]:
    """Predict on images and videos, in their order; what cannot be read is reported and costs nothing else.

    Images are read in ``workers`` processes beside the network and grouped into batches that need little padding.

    Args:
        predictor: a :class:`retina_plugin.inference.RetinaPredictor`.
        sources: from :func:`retina_plugin.inference.sources.find_sources`.
        batch_size: images that go through the network together.
        workers: processes that read images; None: one per two processor cores, at most four; 0: this process.
        every: predict on every n-th frame of a video.
        timing: is updated.

    Yields:
        One :class:`Prediction` per image and per frame.
    """
    timing = timing if timing is not None else Timing()
    if sources.images:
        files = ImageRecords(sources.images, predictor.mapper, max_pixels=predictor.cfg.INPUT.MAX_IMAGE_PIXELS)
        loader = DataLoader(
            files,
            batch_size=None,
            num_workers=_workers(workers, len(files)),
            collate_fn=_as_it_is,
            worker_init_fn=_quiet_worker,
        )
        records = ((Prediction(record["file_name"]), record) for record in loader)
        pool = batch_size * POOL_BATCHES
        yield from _predictions(predictor, records, batch_size=batch_size, pool=pool, timing=timing)
    for video in sources.videos:
        frames = _frames(predictor, video, every=every)
        yield from _predictions(predictor, frames, batch_size=batch_size, pool=batch_size, timing=timing)


def _workers(wanted: int | None, num_files: int) -> int:
    """Return the number of reading processes."""
    if wanted is not None:
        return wanted
    return 0 if num_files < 4 else max(1, min(4, (os.cpu_count() or 2) // 2))


def _as_it_is(record: Any) -> Any:
    return record


def _quiet_worker(_: int) -> None:
    """Leave Ctrl-C to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _predictions(
    predictor: Any,
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
                prediction.error = broken[0][1]
                finished[number] = prediction
            else:
                waiting.append((number, prediction, record))
        passed("reading")
        if waiting:
            chosen = best_fitting([record for *_, record in waiting], batch_size)
            batch = [waiting[i] for i in chosen]
            waiting = [item for i, item in enumerate(waiting) if i not in set(chosen)]
            outputs = predictor.run([record for *_, record in batch], passed)
            for (number, prediction, record), instances in zip(batch, outputs, strict=True):
                prediction.instances = instances
                prediction.height, prediction.width = record["height"], record["width"]
                finished[number] = prediction
            timing.images += len(batch)
            passed("post-processing")
        while due in finished:
            yield finished.pop(due)
            due += 1
        passed("other")


def _frames(predictor: Any, video: str, *, every: int) -> Iterator[tuple[Prediction, dict]]:
    """Yield the mapped frames of a video, decoded in a thread beside the network."""
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
                yield Prediction(video), {BROKEN: [(video, item)]}
                continue
            number, pixels = item
            record = predictor.map_array(pixels, f"frame {number} of {video}")
            yield Prediction(video, frame=number, pixels=pixels), record
    finally:
        stop.set()
        thread.join()
