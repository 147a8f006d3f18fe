"""Measured steps and what fits into a time."""

import numpy as np
import pytest
import torch
from support import BASE, TINY

from detectron2.data import DatasetCatalog

from retina_plugin import load_config
from retina_plugin.plan import budget
from retina_plugin.plan.budget import Speed, measure


def test_images_that_fit_into_a_time():
    speed = Speed(train=0.2, test=0.1, memory=0)
    # 10 min are 600 s; 15 s to start, 100 evaluated images take 10 s; 8 % of the rest are evaluations in between
    assert speed.images_in(10, evaluated=100) == pytest.approx(0.92 * 575 / 0.22)
    slower = Speed(train=0.2, test=0.1, memory=0, loading=0.03)
    assert slower.step == pytest.approx(0.25)
    assert slower.images_in(10, evaluated=100) == pytest.approx(0.92 * 575 / 0.25)
    # a quarter of the pixels: the network takes a quarter of the time, loading as long as before
    assert slower.times(0.25).step == pytest.approx(0.055 + 0.03)
    assert speed.images_in(0.1, evaluated=0) == 0


@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_of_the_config_are_measured(small_digits, accumulate, monkeypatch):
    options = [*TINY, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.ACCUMULATE", accumulate, "INPUT.MIN_SIZE_TRAIN", (64,)]
    cfg = load_config(BASE, options)
    records = DatasetCatalog.get("digits_train")
    sizes = []
    original = budget._random_image

    def image(*args):
        sizes.append(args)
        return original(*args)

    monkeypatch.setattr(budget, "_random_image", image)
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    speed = measure(cfg, records, height=64, width=96, objects=3)
    assert sizes == [(64, 96, 3, cfg.MODEL.RETINANET.NUM_CLASSES)] * (4 // accumulate)
    assert 0 < speed.train < 10 and 0 < speed.test < 10 and speed.memory >= 0 and 0 < speed.loading < 5
    assert torch.equal(torch.get_rng_state(), before[0]), "a training afterwards has the same random numbers"
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_batches_cost_what_they_are_padded_to(small_digits, monkeypatch, tmp_path):
    cfg = load_config(BASE, [*TINY, "INPUT.MIN_SIZE_TRAIN", (64,)])
    monkeypatch.setattr(budget, "_timed", lambda model, samples: (0.1, 0.2, 1000))
    records = DatasetCatalog.get("digits_train")  # squares, of 64 px in training
    speed = measure(cfg, records, height=64, width=32, objects=3)
    assert speed.train == pytest.approx(0.2) and speed.test == 0.2 and speed.memory == 2000
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken = [{**records[0], "file_name": str(tmp_path / "broken.png")}]
    assert measure(cfg, broken, height=64, width=32, objects=3) == Speed(0.1, 0.2, 1000, loading=0.0)
