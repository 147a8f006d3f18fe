"""Batches of images of like size."""

from collections.abc import Callable, Iterable, Iterator

from torch.utils.data import IterableDataset

from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader
from detectron2.utils import comm

POOL_BATCHES = 4
"""Batches' worth of images that wait to be put together."""


class SimilarSizeBatches(IterableDataset):
    """Batches of images that need little padding to stand in one tensor.

    Images wait in a pool. A batch is the one that has waited longest and those that fit it best, so
    that every image is used, none waits for ever, and no more than the pool is held in memory.

    Args:
        samples: dicts with "image" (C, H, W), without end.
        batch_size: images a batch.
        pool_size: images that wait, at least ``batch_size``.
    """

    def __init__(self, samples: Iterable[dict], *, batch_size: int, pool_size: int) -> None:
        super().__init__()
        self.samples, self.batch_size, self.pool_size = samples, batch_size, max(batch_size, pool_size)

    def __iter__(self) -> Iterator[list[dict]]:
        """Lists of ``batch_size`` dicts."""
        pool: list[dict] = []
        for sample in self.samples:
            pool.append(sample)
            if len(pool) >= self.pool_size:
                height, width = pool[0]["image"].shape[-2:]
                # Sorting is stable: of images that fit equally well the older one is taken. The first grows nothing.
                chosen = sorted(range(len(pool)), key=lambda i: self._growth(pool[i], height, width))[: self.batch_size]
                yield [pool[i] for i in chosen]
                chosen = set(chosen)
                pool = [x for i, x in enumerate(pool) if i not in chosen]

    @staticmethod
    def _growth(sample: dict, height: int, width: int) -> int:
        """Pixels of padding if the sample shares a tensor with an image of height x width."""
        h, w = sample["image"].shape[-2:]
        area = max(h, height) * max(w, width)
        return 2 * area - h * w - height * width


def build_train_loader(cfg: CfgNode, dataset: list[dict], mapper: Callable[[dict], dict]) -> Iterable[list[dict]]:
    """Detectron2's training loader over mapped dicts, with :class:`SimilarSizeBatches` unless DATALOADER.ASPECT_RATIO_GROUPING is off.

    On a GPU images are put into pinned memory, from where they are copied while the GPU works.

    Raises:
        ValueError: SOLVER.IMS_PER_BATCH is no multiple of the number of processes.
    """
    processes, batch = comm.get_world_size(), cfg.SOLVER.IMS_PER_BATCH
    if batch % processes:
        raise ValueError(f"SOLVER.IMS_PER_BATCH is {batch}, which cannot be divided among {processes} processes")
    options = {"mapper": mapper, "dataset": dataset, "aspect_ratio_grouping": False, "pin_memory": cfg.MODEL.DEVICE.startswith("cuda")}
    if not cfg.DATALOADER.ASPECT_RATIO_GROUPING:
        return build_detection_train_loader(cfg, **options)
    # Batches of one for each process: they are put together here.
    singles = build_detection_train_loader(cfg, total_batch_size=processes, **options)
    size = batch // processes
    return SimilarSizeBatches((sample for (sample,) in singles), batch_size=size, pool_size=POOL_BATCHES * size)
