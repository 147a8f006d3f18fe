"""Batches of similar size: no image is lost, none waits for ever, and there is little padding."""

import itertools
import logging
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import ROOT

from detectron2.data import DatasetCatalog
from detectron2.utils.env import seed_all_rng

from retina_plugin import load_config
from retina_plugin.data.image_files import ImageError
from retina_plugin.data.loader import (
    BROKEN,
    MOST_TRIES,
    POSITION,
    PositionSampler,
    SeededSamples,
    SimilarSizeBatches,
    UnbrokenSamples,
    build_test_loader,
    build_train_loader,
)
from retina_plugin.data.mapper import build_mapper


def sample(i, height, width):
    return {POSITION: i, "image": torch.zeros(3, height, width)}


def samples(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for i in range(count):
        yield sample(i, *(int(torch.randint(0, 6, (), generator=generator)) * 32 + 160 for _ in range(2)))


def in_batches(stream, batch_size, pool_size):
    return SimilarSizeBatches(
        [[x] for x in stream], sampler=PositionSampler([]), batch_size=batch_size, pool_size=pool_size
    )


def padding(batches):
    """Return the share of the pixels of all batches that no image fills."""
    used = total = 0
    for batch in batches:
        sizes = [x["image"].shape[-2:] for x in batch]
        used += sum(h * w for h, w in sizes)
        total += len(batch) * max(h for h, _ in sizes) * max(w for _, w in sizes)
    return 1 - used / total


def test_every_image_is_used_once_without_a_long_wait():
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


def cfg_with(*opts, batch=3):
    values = {
        "MODEL.DEVICE": "cpu",
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": batch,
        "SOLVER.REFERENCE_BATCH_SIZE": 0,
    }
    common = [part for pair in values.items() for part in pair]
    return load_config(ROOT / "configs/digits/quickstart.yaml", [*common, *opts])


def loader_of(*opts):
    cfg = cfg_with("INPUT.COLOR_JITTER", 0.4, "INPUT.MIN_SIZE_TRAIN", [96, 128, 160], *opts)
    seed_all_rng(cfg.SEED)
    return build_train_loader(cfg, DatasetCatalog.get("digits_train"), build_mapper(cfg, is_train=True))


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert [x[POSITION] for x in batch] == [x[POSITION] for x in other]
        assert all(map(equal, batch, other))


def equal(x, y):
    same_boxes = torch.equal(x["instances"].gt_boxes.tensor, y["instances"].gt_boxes.tensor)
    return torch.equal(x["image"], y["image"]) and same_boxes


@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_continues_from_the_state_of_another(small_digits, workers, sampler):
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


def test_samples_leave_the_global_random_numbers_alone(small_digits):
    stream = iter(loader_of())
    np.random.seed(0)
    next(stream)
    assert np.random.randint(1000) == np.random.RandomState(0).randint(1000)


@pytest.mark.parametrize("grouping", [True, False])
def test_the_loader_of_a_config(small_digits, grouping):
    batches = list(itertools.islice(iter(loader_of("DATALOADER.ASPECT_RATIO_GROUPING", grouping)), 3))
    assert [len(batch) for batch in batches] == [3, 3, 3]
    assert all("instances" in x for batch in batches for x in batch)


@pytest.mark.parametrize("workers", [0, 1])
def test_mixing_ends_after_its_share_of_the_training(small_digits, workers):
    # 4 iterations of 3 images; half of them are 6 samples
    keys = ["SOLVER.MAX_ITER", 4, "SOLVER.WARMUP_ITERS", 1, "DATALOADER.NUM_WORKERS", workers]
    keys += ["DATALOADER.ASPECT_RATIO_GROUPING", False]
    plain = list(itertools.islice(iter(loader_of(*keys)), 4))
    mixed = list(itertools.islice(iter(loader_of(*keys, "INPUT.MOSAIC", 1.0, "INPUT.MIXED_SHARE", 0.5)), 4))
    same = [
        [torch.equal(x["image"], y["image"]) for x, y in zip(*batches, strict=True)]
        for batches in zip(plain, mixed, strict=True)
    ]
    assert same == [[False] * 3, [False] * 3, [True] * 3, [True] * 3]


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch, small_digits):
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="3, which cannot be divided among 2"):
        build_train_loader(cfg_with(), [], lambda x: x)


@pytest.fixture()
def broken_digits(small_digits, tmp_path, monkeypatch):
    """Break two images of the small digits: they keep header and end (12 bytes), so that only decoding shows it."""
    root = tmp_path / "digits"
    shutil.copytree(small_digits, root)
    monkeypatch.setenv("RETINA_ROOT_DIGITS", str(root))
    files = [Path(record["file_name"]) for record in DatasetCatalog.get("digits_train")]
    for file in files[1:3]:
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2] + data[-12:])
    return [str(file) for file in files[1:3]]


MIXED = ["INPUT.MOSAIC", 0.5, "INPUT.MIXUP", 0.3]


@pytest.mark.parametrize("opts", [[], MIXED])
def test_a_broken_image_is_replaced_without_changing_other_samples(small_digits, broken_digits, monkeypatch, opts):
    monkeypatch.setenv("RETINA_ROOT_DIGITS", str(small_digits))
    whole = {x[POSITION]: x for batch in itertools.islice(iter(loader_of(*opts)), 12) for x in batch}
    monkeypatch.setenv("RETINA_ROOT_DIGITS", str(Path(broken_digits[0]).parents[1]))
    replaced = set()  # positions of samples with a replaced image
    seeded = SeededSamples.__getitem__

    def record_replaced(self, key):
        found = seeded(self, key)
        if BROKEN in found:
            replaced.add(key[0])
        return found

    monkeypatch.setattr(SeededSamples, "__getitem__", record_replaced)
    loader = loader_of(*opts)
    samples = {x[POSITION]: x for batch in itertools.islice(iter(loader), 12) for x in batch}
    same = [q for q in samples.keys() & whole.keys() if q not in replaced]
    assert len(same) > 5 and replaced
    assert all(equal(samples[q], whole[q]) for q in same)
    assert set(loader.broken.reasons) == set(broken_digits) and loader.broken.skipped >= 2
    assert not any(BROKEN in x for x in samples.values())


@pytest.mark.parametrize("opts", [[], MIXED])
def test_replacements_depend_on_neither_processes_nor_resuming(broken_digits, opts):
    whole = list(itertools.islice(iter(loader_of(*opts)), 10))
    several = loader_of(*opts, "DATALOADER.NUM_WORKERS", 2)
    assert_same(list(itertools.islice(iter(several), 10)), whole)
    assert set(several.broken.reasons) == set(broken_digits), "the worker processes report them"
    first = loader_of(*opts)
    assert_same(list(itertools.islice(iter(first), 4)), whole[:4])
    second = loader_of(*opts)
    second.load_state_dict(first.state_dict())
    assert_same(list(itertools.islice(iter(second), 6)), whole[4:])


def test_a_broken_image_is_logged_once(broken_digits, caplog):
    with caplog.at_level(logging.WARNING):
        loader = loader_of()
        list(itertools.islice(iter(loader), 20))
    for file in broken_digits:
        assert sum(file in message for message in caplog.messages) == 1
    assert loader.broken.skipped > 2 and "truncated" in loader.broken.reasons[broken_digits[0]]


def test_an_image_whose_size_contradicts_its_annotations_is_replaced_too(small_digits, monkeypatch):
    records = [dict(record) for record in DatasetCatalog.get("digits_train")]
    records[0]["width"] += 1
    cfg = cfg_with(batch=2)
    loader = build_train_loader(cfg, records, build_mapper(cfg, is_train=True))
    names = [x["file_name"] for batch in itertools.islice(iter(loader), 8) for x in batch]
    wrong = records[0]["file_name"]
    assert wrong not in names and any(wrong in reason for reason in loader.broken.reasons)


@pytest.mark.parametrize("workers", [0, 1])
def test_on_broken_image_stop_raises_an_error_that_names_the_file(broken_digits, workers):
    loader = loader_of("DATASETS.ON_BROKEN_IMAGE", "stop", "DATALOADER.NUM_WORKERS", workers)
    with pytest.raises(ImageError, match="truncated") as caught:
        list(itertools.islice(iter(loader), 20))
    assert any(file in str(caught.value) for file in broken_digits)


def test_training_stops_if_every_image_is_broken():
    class Broken:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            raise ImageError(f"{index}.png", "is gone")

    samples = SeededSamples(UnbrokenSamples(Broken()), seed=1)
    np.random.seed(3)
    random.seed(3)
    with pytest.raises(ImageError, match=f"is gone; {MOST_TRIES - 1} other images tried in its place"):
        samples[0, 2]
    # The global random numbers are as before.
    assert np.random.randint(1000) == np.random.RandomState(3).randint(1000)
    assert random.random() == random.Random(3).random()


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_continues_without_broken_images_and_lists_them(broken_digits, workers):
    cfg = cfg_with("DATALOADER.NUM_WORKERS", workers)
    loader = build_test_loader(cfg, DatasetCatalog.get("digits_train"), build_mapper(cfg, is_train=False))
    for _ in range(2):
        batches = list(loader)
        assert len(loader) == 8 and len(batches) == 6 and all("image" in x for batch in batches for x in batch)
        assert sorted(record["file_name"] for record in loader.left_out) == sorted(broken_digits)
    assert set(loader.broken.reasons) == set(broken_digits)


@pytest.mark.parametrize("at_once, batches", [(1, 8), (3, 3), (100, 1)])
def test_images_are_evaluated_in_batches(small_digits, at_once, batches):
    cfg = cfg_with("TEST.IMS_PER_BATCH", at_once)
    records = DatasetCatalog.get("digits_train")
    found = list(build_test_loader(cfg, records, build_mapper(cfg, is_train=False)))
    names = [x["file_name"] for batch in found for x in batch]
    assert len(found) == batches and names == [record["file_name"] for record in records]
