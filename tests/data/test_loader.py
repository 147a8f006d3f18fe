"""Batches of like size: nothing lost, nothing waiting for ever, little padding."""

import itertools

import pytest
import torch
from conftest import ROOT

from detectron2.data import DatasetCatalog

from retina_plugin import load_config
from retina_plugin.data.loader import SimilarSizeBatches, build_train_loader
from retina_plugin.data.mapper import build_mapper


def samples(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for i in range(count):
        h, w = (int(torch.randint(0, 6, (), generator=generator)) * 32 + 160 for _ in range(2))
        yield {"id": i, "image": torch.zeros(3, h, w)}


def padding(batches):
    """Share of the pixels of all batches that no image fills."""
    used = total = 0
    for batch in batches:
        sizes = [x["image"].shape[-2:] for x in batch]
        used += sum(h * w for h, w in sizes)
        total += len(batch) * max(h for h, _ in sizes) * max(w for _, w in sizes)
    return 1 - used / total


def test_every_image_is_used_once_and_none_waits_long():
    batches = list(SimilarSizeBatches(samples(400), batch_size=4, pool_size=16))
    order = [x["id"] for batch in batches for x in batch]
    assert all(len(batch) == 4 for batch in batches)
    assert len(set(order)) == len(order) >= 400 - 16
    # The oldest of a pool of 16 goes into the next batch: after 16 batches of 4 nothing older is left.
    assert max(position - i for position, i in enumerate(order)) <= 16 * 4


def test_padding_is_less_than_half_of_that_in_the_order_of_arrival():
    in_order = list(zip(*[iter(samples(400))] * 4, strict=True))
    assert padding(SimilarSizeBatches(samples(400), batch_size=4, pool_size=16)) < 0.5 * padding(in_order)


def test_images_of_one_size_stay_in_order():
    same = ({"id": i, "image": torch.zeros(3, 64, 64)} for i in range(40))
    order = [x["id"] for batch in SimilarSizeBatches(same, batch_size=4, pool_size=8) for x in batch]
    assert order == list(range(len(order)))


@pytest.mark.parametrize("grouping", [True, False])
def test_the_loader_of_a_config(small_digits, grouping):
    opts = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 3, "SOLVER.REFERENCE_BATCH_SIZE", 0, "DATALOADER.ASPECT_RATIO_GROUPING", grouping]
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", opts)
    loader = build_train_loader(cfg, DatasetCatalog.get("digits_train"), build_mapper(cfg, is_train=True))
    batches = list(itertools.islice(iter(loader), 3))
    assert [len(batch) for batch in batches] == [3, 3, 3]
    assert all("instances" in x for batch in batches for x in batch)


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch, small_digits):
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", ["MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", 3, "SOLVER.REFERENCE_BATCH_SIZE", 0])
    with pytest.raises(ValueError, match="3, which cannot be divided among 2"):
        build_train_loader(cfg, [], lambda x: x)
