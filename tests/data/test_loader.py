"""Batches of like size: nothing lost, nothing waiting for ever, little padding."""

import itertools

import numpy as np
import pytest
import torch
from conftest import ROOT

from detectron2.data import DatasetCatalog
from detectron2.utils.env import seed_all_rng

from retina_plugin import load_config
from retina_plugin.data.loader import POSITION, PositionSampler, SimilarSizeBatches, build_train_loader
from retina_plugin.data.mapper import build_mapper


def sample(i, height, width):
    return {POSITION: i, "image": torch.zeros(3, height, width)}


def samples(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for i in range(count):
        yield sample(i, *(int(torch.randint(0, 6, (), generator=generator)) * 32 + 160 for _ in range(2)))


def in_batches(stream, batch_size, pool_size):
    return SimilarSizeBatches([[x] for x in stream], sampler=PositionSampler([]), batch_size=batch_size, pool_size=pool_size)


def padding(batches):
    """Share of the pixels of all batches that no image fills."""
    used = total = 0
    for batch in batches:
        sizes = [x["image"].shape[-2:] for x in batch]
        used += sum(h * w for h, w in sizes)
        total += len(batch) * max(h for h, _ in sizes) * max(w for _, w in sizes)
    return 1 - used / total


def test_every_image_is_used_once_and_none_waits_long():
    batches = list(in_batches(samples(400), 4, 16))
    order = [x[POSITION] for batch in batches for x in batch]
    assert all(len(batch) == 4 for batch in batches)
    assert len(set(order)) == len(order) >= 400 - 16
    # The oldest of a pool of 16 goes into the next batch: after 16 batches of 4 nothing older is left.
    assert max(position - i for position, i in enumerate(order)) <= 16 * 4


def test_padding_is_less_than_half_of_that_in_the_order_of_arrival():
    in_order = list(zip(*[iter(samples(400))] * 4, strict=True))
    assert padding(in_batches(samples(400), 4, 16)) < 0.5 * padding(in_order)


def test_images_of_one_size_stay_in_order():
    order = [x[POSITION] for batch in in_batches((sample(i, 64, 64) for i in range(40)), 4, 8) for x in batch]
    assert order == list(range(len(order)))


def loader_of(*opts):
    common = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 3, "SOLVER.REFERENCE_BATCH_SIZE", 0, "INPUT.COLOR_JITTER", 0.4, "INPUT.MIN_SIZE_TRAIN", [96, 128, 160]]
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", [*common, *opts])
    seed_all_rng(cfg.SEED)
    return build_train_loader(cfg, DatasetCatalog.get("digits_train"), build_mapper(cfg, is_train=True))


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert [x[POSITION] for x in batch] == [x[POSITION] for x in other]
        assert all(torch.equal(x["image"], y["image"]) and torch.equal(x["instances"].gt_boxes.tensor, y["instances"].gt_boxes.tensor) for x, y in zip(batch, other, strict=True))


@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_where_another_was(small_digits, workers, sampler):
    whole = loader_of("DATALOADER.SAMPLER_TRAIN", sampler)
    want = list(itertools.islice(iter(whole), 12))
    first = loader_of("DATALOADER.SAMPLER_TRAIN", sampler, "DATALOADER.NUM_WORKERS", workers)
    stream = iter(first)
    assert_same(list(itertools.islice(stream, 5)), want[:5])
    state = first.state_dict()
    assert state["position"] > len(state["waiting"]) > 0
    second = loader_of("DATALOADER.SAMPLER_TRAIN", sampler, "DATALOADER.NUM_WORKERS", workers)
    second.load_state_dict(state)
    assert_same(list(itertools.islice(iter(second), 7)), want[5:])
    assert second.state_dict() == whole.state_dict()


def test_samples_leave_the_random_numbers_of_others_alone(small_digits):
    stream = iter(loader_of())
    np.random.seed(0)
    next(stream)
    assert np.random.randint(1000) == np.random.RandomState(0).randint(1000)


@pytest.mark.parametrize("grouping", [True, False])
def test_the_loader_of_a_config(small_digits, grouping):
    batches = list(itertools.islice(iter(loader_of("DATALOADER.ASPECT_RATIO_GROUPING", grouping)), 3))
    assert [len(batch) for batch in batches] == [3, 3, 3]
    assert all("instances" in x for batch in batches for x in batch)


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch, small_digits):
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", ["MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", 3, "SOLVER.REFERENCE_BATCH_SIZE", 0])
    with pytest.raises(ValueError, match="3, which cannot be divided among 2"):
        build_train_loader(cfg, [], lambda x: x)
