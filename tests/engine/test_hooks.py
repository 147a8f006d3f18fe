"""A run that was killed and resumed equals one that was not."""

import contextlib

import pytest
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
    return trainer


def test_stopped_and_resumed_is_as_if_never_stopped(small_digits, tmp_path):
    want = train(tmp_path / "whole").model.state_dict()
    stopped = train(tmp_path / "half", stop=5).model.state_dict()
    assert differing(stopped, want)
    assert differing(train(tmp_path / "half", resume=True).model.state_dict(), want) == []


def differing(a, b):
    return [name for name in b if not torch.equal(a[name], b[name])]


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_best_average_and_early_stopping_too(stop, small_digits, tmp_path):
    opts = ["DATASETS.TEST", ("digits_val",), "TEST.EVAL_PERIOD", 2, "TEST.EARLY_STOP_PATIENCE", 5, "SOLVER.EMA_DECAY", 0.5, "SOLVER.ACCUMULATE", 2, "SOLVER.FREEZE_ITERS", 3]
    whole = train(tmp_path / "whole", *opts)
    train(tmp_path / "half", *opts, stop=stop)
    again = train(tmp_path / "half", *opts, resume=True)
    assert differing(again.model.state_dict(), whole.model.state_dict()) == []
    assert differing(again.average.average, whole.average.average) == []
    assert again._evaluation.state_dict() == whole._evaluation.state_dict() and again.results["bbox"].keys() == whole.results["bbox"].keys()
    best, other = (torch.load(tmp_path / name / "model_best.pth", weights_only=True) for name in ("whole", "half"))
    assert best["iteration"] == other["iteration"] and differing(best["model"], other["model"]) == []
    assert (tmp_path / "half/last_checkpoint").read_text() == "model_final.pth"


def test_a_run_that_ended_early_stays_ended(small_digits, tmp_path):
    opts = ["DATASETS.TEST", ("digits_val",), "TEST.EVAL_PERIOD", 1, "TEST.EARLY_STOP_PATIENCE", 2, "SOLVER.BASE_LR", 1e-9, "SOLVER.BASE_LR_END", 1e-10, "SOLVER.FREEZE_ITERS", 6, "SOLVER.EMA_DECAY", 0.0]
    first = train(tmp_path, *opts)
    state = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert first._evaluation.finished and state["iteration"] == 2
    second = train(tmp_path, *opts, resume=True)
    assert second.start_iter == 3 and second.results["bbox"].keys() == first.results["bbox"].keys()
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 2


def test_the_backbone_is_left_alone_at_first(small_digits, tmp_path):
    loaded = train(tmp_path / "a", "SOLVER.MAX_ITER", 3, "SOLVER.FREEZE_ITERS", 3).model.state_dict()
    frozen = train(tmp_path / "b", "SOLVER.FREEZE_ITERS", 6).model.state_dict()
    moved = train(tmp_path / "c", "SOLVER.FREEZE_ITERS", 5).model.state_dict()
    below = [name for name in loaded if name.startswith("backbone.bottom_up.")]
    assert not [name for name in differing(frozen, loaded) if name in below]
    assert [name for name in differing(moved, loaded) if name in below]
    assert differing(frozen, loaded)


def test_with_other_processes_the_data_begins_anew_and_says_so(small_digits, tmp_path, caplog):
    train(tmp_path, stop=3)
    with caplog.at_level("WARNING"):
        train(tmp_path, "SOLVER.IMS_PER_BATCH", 3, resume=True)
    assert "the order of the images begins anew" in caplog.text
