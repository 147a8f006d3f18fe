"""Batches of images of like size, in an order that a resumed run takes up where it was."""

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

from retina_plugin.data.mixing import MixedSamples
from retina_plugin.data.strangers_files import ImageError

logger = logging.getLogger(__name__)

POOL_BATCHES = 4
"""Batches' worth of images that wait to be put together."""

POSITION = "stream_position"
"""Key of a training sample: its index in this process's stream, from 0."""

BROKEN = "broken_images"
"""Key of a training sample: (file, reason) of the images that could not be used for it."""

MOST_TRIES = 100
"""Images in a row that may be broken; more, and the disk is gone or the data set is no data set."""


class PositionSampler(Sampler):
    """Numbers what a sampler yields, and can begin somewhere else than at the beginning.

    Args:
        indices: without end; yields the same each time it is iterated.
    """

    def __init__(self, indices: Sampler) -> None:
        self.indices = indices
        self.waiting, self.position = [], 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(position, index): first those of ``waiting``, then from ``position`` on."""
        indices, waiting = iter(self.indices), set(self.waiting)
        index_of = {q: index for q, index in enumerate(itertools.islice(indices, self.position)) if q in waiting}
        yield from ((q, index_of[q]) for q in self.waiting)
        yield from enumerate(indices, start=self.position)


class UnbrokenSamples(Dataset):
    """Puts another sample in the place of one whose image turns out to be broken; which one is drawn from numpy's random numbers.

    Below :class:`SeededSamples` the replacement follows from the seed and the position alone, and so do the random
    numbers of all other positions.

    Args:
        samples: map-style; raises ``ImageError`` or ``SizeMismatchError`` for an image that cannot be used.

    Attributes:
        broken: (file, reason) of each that was met, in order; whoever reads it clears it.
    """

    def __init__(self, samples: Dataset) -> None:
        self.samples = samples
        self.broken: list[tuple[str, str]] = []

    def __getitem__(self, index: int) -> dict:
        """The sample at an index, or another.

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
            found[0], f"{found[1]}; neither could {MOST_TRIES - 1} other images be used that were tried in its place"
        ) from last

    def __len__(self) -> int:
        """Images of the dataset."""
        return len(self.samples)


class SeededSamples(Dataset):
    """Maps each sample with random numbers that depend on its position alone, in whichever process that happens.

    Args:
        samples: a map-style dataset that draws from numpy's and Python's random numbers.
        seed: of the run.
        rank, processes: the sample at position q of this process is number q * processes + rank of the run.
        unbroken: below ``samples``, says which images were broken; None: nothing says so.
    """

    def __init__(
        self, samples: Dataset, *, seed: int, rank: int = 0, processes: int = 1, unbroken: UnbrokenSamples | None = None
    ) -> None:
        self.samples, self.seed, self.unbroken = samples, seed, unbroken
        self.rank, self.processes = rank, processes

    def __getitem__(self, key: tuple[int, int]) -> dict:
        """The sample at (position, index)."""
        position, index = key
        number = position * self.processes + self.rank
        states = np.random.get_state(), random.getstate()
        np.random.seed([self.seed, number])
        random.seed(f"{self.seed} {number}")
        try:
            sample = {**self.samples[index], POSITION: position}
        finally:
            np.random.set_state(states[0])
            random.setstate(states[1])
        if self.unbroken is not None and self.unbroken.broken:
            sample[BROKEN], self.unbroken.broken = self.unbroken.broken, []
        return sample

    def __len__(self) -> int:
        """Images of the dataset."""
        return len(self.samples)


def _named(error: ImageError | SizeMismatchError) -> tuple[str, str]:
    """(file, reason); Detectron2's error has the file in its text."""
    return (error.file, error.reason) if isinstance(error, ImageError) else ("", str(error))


class BrokenImages:
    """Counts the images that could not be used, and names each once in the log.

    Args:
        consequence: ends what is logged.

    Attributes:
        reasons: by file.
        skipped: how often one of them was met.
    """

    def __init__(self, consequence: str) -> None:
        self.consequence = consequence
        self.reasons: dict[str, str] = {}
        self.skipped = 0

    def add(self, found: list[tuple[str, str]]) -> None:
        """Take (file, reason) of images that were met."""
        for file, reason in found:
            self.skipped += 1
            name = file or reason
            if name not in self.reasons:
                self.reasons[name] = reason
                logger.warning(
                    "%s; %s (broken image %d)", f"{file} {reason}".strip(), self.consequence, len(self.reasons)
                )


class SimilarSizeBatches:
    """Batches of images that need little padding to stand in one tensor.

    Images wait in a pool. A batch is the one that has waited longest and those that fit it best, so
    that every image is used, none waits for ever, and no more than the pool is held in memory.

    Args:
        loader: yields lists of one dict with "image" (C, H, W) and its position, without end.
        sampler: that of the loader.
        batch_size: images a batch.
        pool_size: images that wait, at least ``batch_size``; if no more, batches are in the order of arrival.

    Attributes:
        broken: images that could not be used so far, see :class:`BrokenImages`.
    """

    def __init__(self, loader: DataLoader, *, sampler: PositionSampler, batch_size: int, pool_size: int) -> None:
        self.loader, self.sampler = loader, sampler
        self.batch_size, self.pool_size = batch_size, max(batch_size, pool_size)
        self._pool: list[dict] = []
        self.broken = BrokenImages("another image takes its place")

    def __iter__(self) -> Iterator[list[dict]]:
        """Lists of ``batch_size`` dicts."""
        self._pool = []
        for (sample,) in self.loader:
            self.broken.add(sample.pop(BROKEN, []))
            self._pool.append(sample)
            if len(self._pool) >= self.pool_size:
                yield self._take()

    def _take(self) -> list[dict]:
        pool = self._pool
        height, width = pool[0]["image"].shape[-2:]
        # Sorting is stable: of images that fit equally well the older one is taken. The first grows nothing.
        chosen = sorted(range(len(pool)), key=lambda i: _growth(pool[i], height, width))[: self.batch_size]
        taken = set(chosen)
        self._pool = [x for i, x in enumerate(pool) if i not in taken]
        # The sampler may be far ahead, in the processes that load; what came here is what counts.
        self.sampler.position = max(self.sampler.position, 1 + max(x[POSITION] for x in pool))
        return [pool[i] for i in chosen]

    def state_dict(self) -> dict[str, int | list[int]]:
        """Where the stream of images is: "position" of the next to come, positions "waiting" in the pool."""
        return {"position": self.sampler.position, "waiting": [x[POSITION] for x in self._pool]}

    def load_state_dict(self, state: dict[str, int | list[int]]) -> None:
        """Let the next iteration go on where :meth:`state_dict` was taken."""
        self.sampler.position, self.sampler.waiting = state["position"], list(state["waiting"])


def _growth(sample: dict, height: int, width: int) -> int:
    """Pixels of padding if the sample shares a tensor with an image of height x width."""
    h, w = sample["image"].shape[-2:]
    area = max(h, height) * max(w, width)
    return 2 * area - h * w - height * width


def repeating_sampler(cfg: CfgNode, dataset: list[dict], *, seed: int) -> RepeatFactorTrainingSampler | None:
    """A sampler that gives a record as often as its "repeat" says, and rare classes more often if SAMPLER_TRAIN does; None if no record has one.

    A part of an image, 0.4 of 2.4, comes in that share of the passes, drawn anew in each.
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
    """Detectron2's training loader (samplers, processes) over mapped dicts, with :class:`SimilarSizeBatches`.

    DATALOADER.ASPECT_RATIO_GROUPING False leaves the images in their order. The random numbers of a sample
    follow from SEED and its position in the run, also which one replaces a broken image (DATASETS.ON_BROKEN_IMAGE), so that neither a resumed
    run nor another number of processes or of DATALOADER.NUM_WORKERS changes what is trained on. On a GPU images are put into pinned memory, from where they are copied while the GPU works.

    A batch is what one process computes at once: SOLVER.IMS_PER_BATCH / (processes x SOLVER.ACCUMULATE) images.

    Raises:
        ValueError: SOLVER.IMS_PER_BATCH cannot be divided so.
    """
    processes, batch = comm.get_world_size(), cfg.SOLVER.IMS_PER_BATCH
    if batch % (processes * cfg.SOLVER.ACCUMULATE):
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {batch}, which cannot be divided among {processes} processes"
            + (f" x SOLVER.ACCUMULATE {cfg.SOLVER.ACCUMULATE}" if cfg.SOLVER.ACCUMULATE > 1 else "")
        )
    seed = comm.shared_random_seed() if cfg.SEED < 0 else cfg.SEED
    # Batches of one for each process: they are put together here.
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
    if cfg.INPUT.MOSAIC > 0 or cfg.INPUT.MIXUP > 0:
        stream.dataset = MixedSamples(stream.dataset, mosaic=cfg.INPUT.MOSAIC, mixup=cfg.INPUT.MIXUP)
    stream.dataset = SeededSamples(
        stream.dataset, seed=seed, rank=comm.get_rank(), processes=processes, unbroken=unbroken
    )
    size = batch // (processes * cfg.SOLVER.ACCUMULATE)
    pool = POOL_BATCHES * size if cfg.DATALOADER.ASPECT_RATIO_GROUPING else size
    return SimilarSizeBatches(singles, sampler=stream.sampler, batch_size=size, pool_size=pool)


class MarkBroken:
    """A mapper that returns what is left of the dict, with ``BROKEN`` and without "image", where the image cannot be used."""

    def __init__(self, mapper: Callable[[dict], dict]) -> None:
        self.mapper = mapper

    def __call__(self, record: dict) -> dict:
        """Map one dict."""
        try:
            return self.mapper(record)
        except (ImageError, SizeMismatchError) as error:
            return {**record, BROKEN: [_named(error)]}


class UnbrokenBatches:
    """The batches of a loader without the images that could not be used; a batch that has no other is left out.

    Args:
        loader: its mapper is a :class:`MarkBroken`.

    Attributes:
        broken: see :class:`BrokenImages`.
        left_out: the records of the images that could not be used in the last pass.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader
        self.broken = BrokenImages("it is left out of the evaluation")
        self.left_out: list[dict] = []

    def __len__(self) -> int:
        """Batches, if no image is broken."""
        return len(self.loader)

    def __iter__(self) -> Iterator[list[dict]]:
        """Lists of dicts that have an "image"."""
        self.left_out = []
        for batch in self.loader:
            for record in batch:
                if found := record.pop(BROKEN, None):
                    self.broken.add(found)
                    self.left_out.append(record)
            if kept := [record for record in batch if "image" in record]:
                yield kept


def build_test_loader(cfg: CfgNode, records: list[dict], mapper: Callable[[dict], dict]) -> UnbrokenBatches:
    """Detectron2's loader for evaluation, which a broken image does not stop: it is named, and left out.

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
