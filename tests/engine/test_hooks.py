"""A run that was killed and resumed equals one that was not."""

import contextlib

import torch
from conftest import ROOT, SMALL

from detectron2.engine import HookBase
from detectron2.utils.env import seed_all_rng

from retina_plugin import load_config
from retina_plugin.engine import RetinaTrainer

OPTIONS = [
    *SMALL, "SOLVER.MAX_ITER", 6, "SOLVER.WARMUP_ITERS", 2, "SOLVER.CHECKPOINT_PERIOD", 2, "DATASETS.TEST", (),
    "INPUT.COLOR_JITTER", 0.3, "INPUT.MIN_SIZE_TRAIN", [96, 128],
]  # fmt: skip


class Killed(BaseException):
    """Not an error that anything handles."""


class Kill(HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            raise Killed


def train(folder, *opts, stop=None, resume=False):
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", [*OPTIONS, "OUTPUT_DIR", str(folder), *opts])
    seed_all_rng(cfg.SEED)
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    if stop:
        trainer.register_hooks([Kill(stop)])
    with contextlib.suppress(Killed):
        trainer.train()
    return trainer.model.state_dict()


def test_stopped_and_resumed_is_as_if_never_stopped(small_digits, tmp_path):
    want = train(tmp_path / "whole")
    stopped = train(tmp_path / "half", stop=5)
    assert any(not torch.equal(stopped[name], want[name]) for name in want)
    got = train(tmp_path / "half", resume=True)
    assert [name for name in want if not torch.equal(got[name], want[name])] == []


def test_with_other_processes_the_data_begins_anew_and_says_so(small_digits, tmp_path, caplog):
    train(tmp_path, stop=3)
    with caplog.at_level("WARNING"):
        train(tmp_path, "SOLVER.IMS_PER_BATCH", 3, resume=True)
    assert "the order of the images begins anew" in caplog.text
