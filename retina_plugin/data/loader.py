"""Data loaders: batches of images of similar size, in an order that a resumed run continues."""

import itertools
import logging
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.utils import comm

from retina_plugin.data.batching import POOL_BATCHES, best_fitting
from retina_plugin.data.mixing import MixedSamples, Samples
from retina_plugin.data.strangers_files import ImageError

logger = logging.getLogger(__name__)

POSITION = "stream_position"
"""Key of a training sample: its index in this process's stream, from 0."""

BROKEN = "broken_images"
"""Key of a training sample: (file, reason) for each image that could not be used for it."""

MOST_TRIES = 100
"""Number of broken images in a row after which training stops: the disk is gone or the dataset is useless."""


class PositionSampler(Sampler):
    """Sampler that numbers the indices of another one, and can start at any position.

    Args:
        indices: infinite; yields the same sequence each time it is iterated.

    Attributes:
        waiting: earlier positions to yield first.
        position: to continue from.
    """

    def __init__(self, indices: Sampler) -> None:
        self.indices = indices
        self.waiting: list[int] = []
        self.position = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (position, index): first those of ``waiting``, then from ``position`` on."""
        indices, waiting = iter(self.indices), set(self.waiting)
        index_of = {q: index for q, index in enumerate(itertools.islice(indices, self.position)) if q in waiting}
        yield from ((q, index_of[q]) for q in self.waiting)
        yield from enumerate(indices, start=self.position)


class UnbrokenSamples(Dataset):
    """Dataset that replaces a sample whose image turns out to be broken by one drawn with numpy's random numbers.

    Inside a :class:`SeededSamples`, the replacement depends on the seed and the position only, and so do the random
    numbers of all other positions.

    Args:
        samples: map-style; raises ``ImageError`` or ``SizeMismatchError`` for an image that cannot be used.

    Attributes:
        broken: (file, reason) of each broken image so far, in order; the reader clears the list.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.broken: list[tuple[str, str]] = []

    def __getitem__(self, index: int) -> dict:
        """Return the sample at an index, or a replacement.

        Raises:
            ImageError: ``MOST_TRIES`` images in a row are broken.
        """
        for _ in range(MOST_TRIES):
            try:
                return self.samples[index]
            except (ImageError, SizeMismatchError) as error:
                last, found = error, _named(error)
            self.broken.append(found)
            index = int(np.random.randint(len(self)))
        raise ImageError(
            found[0], f"{found[1]}; {MOST_TRIES - 1} other images tried in its place could not be used either"
        ) from last

    def __len__(self) -> int:
        """Return the number of images of the dataset."""
        return len(self.samples)


class SeededSamples(Dataset):
    """Dataset that maps each sample with random numbers that depend only on its position, in whichever process.

    Args:
        samples: a map-style dataset that draws from numpy's and Python's random numbers.
        seed: of the run.
        rank, processes: the sample at position q of this process is number q * processes + rank of the run.
        unbroken: the dataset inside ``samples`` that collects broken images; None if there is none.
        late: (number, dataset): from that number on, samples come from this dataset instead.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        unbroken: UnbrokenSamples | None = None,
        late: tuple[int, Samples] | None = None,
    ) -> None:
        self.samples, self.seed, self.unbroken = samples, seed, unbroken
        self.rank, self.processes, self.late = rank, processes, late

    def __getitem__(self, key: tuple[int, int]) -> dict:
        """Return the sample at (position, index)."""
        position, index = key
        number = position * self.processes + self.rank
        states = np.random.get_state(), random.getstate()
        np.random.seed([self.seed, number])
        random.seed(f"{self.seed} {number}")
        try:
            samples = self.late[1] if self.late and number >= self.late[0] else self.samples
            sample = {**samples[index], POSITION: position}
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])
        if self.unbroken is not None and self.unbroken.broken:
            sample[BROKEN], self.unbroken.broken = self.unbroken.broken, []
        return sample

    def __len__(self) -> int:
        """Return the number of images of the dataset."""
        return len(self.samples)


def _named(error: ImageError | SizeMismatchError) -> tuple[str, str]:
    """Return the (file, reason) of an error; Detectron2's names the file only in its text."""
    return (error.file, error.reason) if isinstance(error, ImageError) else ("", str(error))


class BrokenImages:
    """Counts the images that could not be used, and logs each once.

    Args:
        consequence: what happens instead; ends the log line.

    Attributes:
        reasons: why each cannot be used, by file.
        skipped: number of times that a broken image was drawn.
    """

    def __init__(self, consequence: str) -> None:
        self.consequence = consequence
        self.reasons: dict[str, str] = {}
        self.skipped = 0

    def add(self, found: list[tuple[str, str]]) -> None:
        """Add the (file, reason) of images that were drawn."""
        for file, reason in found:
            self.skipped += 1
            name = file or reason
            if name not in self.reasons:
                self.reasons[name] = reason
                logger.warning(
                    "%s; %s (broken image %d)", f"{file} {reason}".strip(), self.consequence, len(self.reasons)
                )


class SimilarSizeBatches:
    """Batches of images that need little padding to form one tensor.

    Images wait in a pool. A batch consists of the image that has waited longest and those that fit it best, so that
    every image is used, none waits for ever, and memory holds no more than the pool.

    Args:
        loader: infinite; yields lists of one dict with "image" (C, H, W) and its position.
        sampler: of the loader.
        batch_size: images per batch.
        pool_size: images that wait, at least ``batch_size``; if equal, batches are in the order of arrival.

    Attributes:
        broken: images that could not be used so far, see :class:`BrokenImages`.
        image_size: median [height, width] of the images, pixels; None if unknown.
    """

    image_size: list[int] | None = None

    def __init__(self, loader: DataLoader, *, sampler: PositionSampler, batch_size: int, pool_size: int) -> None:
        self.loader, self.sampler = loader, sampler
        self.batch_size, self.pool_size = batch_size, max(batch_size, pool_size)
        self._pool: list[dict] = []
        self.broken = BrokenImages("another image takes its place")

    def __iter__(self) -> Iterator[list[dict]]:
        """Yield lists of ``batch_size`` dicts."""
        self._pool = []
        for (sample,) in self.loader:
            self.broken.add(sample.pop(BROKEN, []))
            self._pool.append(sample)
            if len(self._pool) >= self.pool_size:
                yield self._take()

    def _take(self) -> list[dict]:
        pool = self._pool
        chosen = best_fitting([x["image"].shape[-2:] for x in pool], self.batch_size)
        taken = set(chosen)
        self._pool = [x for i, x in enumerate(pool) if i not in taken]
        # The sampler of the loading processes may be far ahead; what counts is what arrived here.
        self.sampler.position = max(self.sampler.position, 1 + max(x[POSITION] for x in pool))
        return [pool[i] for i in chosen]

    def state_dict(self) -> dict[str, int | list[int]]:
        """Return the state of the stream: the next "position", and the positions "waiting" in the pool."""
        return {"position": self.sampler.position, "waiting": [x[POSITION] for x in self._pool]}

    def load_state_dict(self, state: dict[str, int | list[int]]) -> None:
        """Make the next iteration continue where :meth:`state_dict` was taken."""
        position, waiting = state["position"], state["waiting"]
        assert isinstance(position, int) and isinstance(waiting, list)
        self.sampler.position, self.sampler.waiting = position, list(waiting)


def repeating_sampler(cfg: CfgNode, dataset: list[dict], *, seed: int) -> RepeatFactorTrainingSampler | None:
    """Build a sampler that repeats each record by its "repeat", and rare classes if SAMPLER_TRAIN does.

    The fraction of a factor, 0.4 of 2.4, is the probability of one more repetition, drawn again in each epoch.

    Returns:
        The sampler; None if every record is used once per epoch.
    """
    if all(record.get("repeat", 1) == 1 for record in dataset):
        return None
    factors = torch.tensor([float(record.get("repeat", 1)) for record in dataset])
    if cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler":
        factors *= RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD
        )
    return RepeatFactorTrainingSampler(factors, seed=seed)


def build_train_loader(cfg: CfgNode, dataset: list[dict], mapper: Callable[[dict], dict]) -> SimilarSizeBatches:
    """Build Detectron2's training loader (samplers, processes) over mapped dicts, with :class:`SimilarSizeBatches`.

    DATALOADER.ASPECT_RATIO_GROUPING False keeps the images in their order. The random numbers of a sample, including
    the choice of a replacement for a broken image (DATASETS.ON_BROKEN_IMAGE), depend only on SEED and its position in
    the run. Neither resuming nor a different number of processes or of DATALOADER.NUM_WORKERS changes what is trained
    on. With a GPU, images are put into pinned memory, from which they are copied while the GPU computes.

    A batch is what one process computes at once: SOLVER.IMS_PER_BATCH / (processes x SOLVER.ACCUMULATE) images.

    Args:
        cfg: the config.
        dataset: dataset dicts.
        mapper: of :func:`retina_plugin.data.mapper.build_mapper`.

    Raises:
        ValueError: SOLVER.IMS_PER_BATCH is not divisible by that product.
    """
    processes, batch = comm.get_world_size(), cfg.SOLVER.IMS_PER_BATCH
    if batch % (processes * cfg.SOLVER.ACCUMULATE):
        accumulate = f" x SOLVER.ACCUMULATE {cfg.SOLVER.ACCUMULATE}" if cfg.SOLVER.ACCUMULATE > 1 else ""
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {batch}, which cannot be divided among {processes} processes{accumulate}"
        )
    seed = comm.shared_random_seed() if cfg.SEED < 0 else cfg.SEED
    # Batches of one image per process; the batches are formed here.
    singles = build_detection_train_loader(
        cfg,
        dataset=dataset,
        mapper=mapper,
        total_batch_size=processes,
        aspect_ratio_grouping=False,
        pin_memory=cfg.MODEL.DEVICE.startswith("cuda"),
        seed=seed,
        sampler=repeating_sampler(cfg, dataset, seed=seed),
    )
    stream = singles.dataset  # Detectron2's ToIterableDataset: a dataset and a sampler
    stream.sampler = PositionSampler(stream.sampler)
    unbroken = None
    if cfg.DATASETS.ON_BROKEN_IMAGE == "skip":
        stream.dataset = unbroken = UnbrokenSamples(stream.dataset)
    late = None
    if max(cfg.INPUT.MOSAIC, cfg.INPUT.MIXUP, cfg.INPUT.COPY_PASTE) > 0:
        late = (round(cfg.INPUT.MIXED_SHARE * cfg.SOLVER.MAX_ITER * batch), stream.dataset)
        stream.dataset = MixedSamples(
            stream.dataset, mosaic=cfg.INPUT.MOSAIC, mixup=cfg.INPUT.MIXUP, copy_paste=cfg.INPUT.COPY_PASTE
        )
    stream.dataset = SeededSamples(
        stream.dataset, seed=seed, rank=comm.get_rank(), processes=processes, unbroken=unbroken, late=late
    )
    size = batch // (processes * cfg.SOLVER.ACCUMULATE)
    pool = POOL_BATCHES * size if cfg.DATALOADER.ASPECT_RATIO_GROUPING else size
    return SimilarSizeBatches(singles, sampler=stream.sampler, batch_size=size, pool_size=pool)


class MarkBroken:
    """Mapper that returns a dict without "image" and with ``BROKEN`` if the image cannot be used.

    Args:
        mapper: maps the dicts of the other images.
    """

    def __init__(self, mapper: Callable[[dict], dict]) -> None:
        self.mapper = mapper

    def __call__(self, record: dict) -> dict:
        """Map one dict."""
        try:
            return self.mapper(record)
        except (ImageError, SizeMismatchError) as error:
            return {**record, BROKEN: [_named(error)]}


class UnbrokenBatches:
    """The batches of a loader without the images that could not be used; batches without any other image are left out.

    Args:
        loader: its mapper is a :class:`MarkBroken`.

    Attributes:
        broken: see :class:`BrokenImages`.
        left_out: records of the images that could not be used in the last iteration.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.broken = BrokenImages("it is left out of the evaluation")
        self.left_out: list[dict] = []

    def __len__(self) -> int:
        """Return the number of batches if no image is broken."""
        return len(self.loader)

    def __iter__(self) -> Iterator[list[dict]]:
        """Yield lists of dicts that have an "image"."""
        self.left_out = []
        for batch in self.loader:
            for record in batch:
                if found := record.pop(BROKEN, None):
                    self.broken.add(found)
                    self.left_out.append(record)
            if kept := [record for record in batch if "image" in record]:
                yield kept


def build_test_loader(cfg: CfgNode, records: list[dict], mapper: Callable[[dict], dict]) -> UnbrokenBatches:
    """Build Detectron2's loader for evaluation; a broken image is logged and left out.

    Args:
        cfg: for DATALOADER.NUM_WORKERS and TEST.IMS_PER_BATCH.
        records: dataset dicts.
        mapper: of :func:`retina_plugin.data.mapper.build_mapper`.
    """
    loader = build_detection_test_loader(
        dataset=records,
        mapper=MarkBroken(mapper),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        batch_size=cfg.TEST.IMS_PER_BATCH,
    )
    return UnbrokenBatches(loader)
