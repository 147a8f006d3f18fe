"""A run that is killed and resumed equals an uninterrupted one; and what other hooks do."""

import contextlib
import json

import pytest
import torch
from option_pairs import pairs
from support import ROOT, SMALL

from detectron2.engine import HookBase
from detectron2.utils.env import seed_all_rng

from retina_plugin import load_config
from retina_plugin.engine import RetinaTrainer

DIGITS = ROOT / "configs/digits/quickstart.yaml"
OPTIONS = {
    "SOLVER.MAX_ITER": 6,
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "DATASETS.TEST": (),
    "INPUT.COLOR_JITTER": 0.3,
    "INPUT.MIN_SIZE_TRAIN": [96, 128],
}


class Killed(BaseException):
    """Ends a run; nothing handles it."""


class Kill(HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            raise Killed


def train(folder, *opts, stop=None, resume=False):
    cfg = load_config(DIGITS, [*SMALL, *pairs(OPTIONS), "OUTPUT_DIR", str(folder), *opts])
    seed_all_rng(cfg.SEED)
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    if stop:
        trainer.register_hooks([Kill(stop)])
    with contextlib.suppress(Killed):
        trainer.train()
    return trainer


@pytest.mark.slow
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(small_digits, tmp_path):
    want = train(tmp_path / "whole").model.state_dict()
    stopped = train(tmp_path / "half", stop=5).model.state_dict()
    assert differing(stopped, want)
    assert differing(train(tmp_path / "half", resume=True).model.state_dict(), want) == []


def differing(a, b):
    return [name for name in b if not torch.equal(a[name], b[name])]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_resuming_also_restores_best_average_and_early_stopping(stop, small_digits, tmp_path):
    options = {
        "DATASETS.TEST": ("digits_val",),
        "TEST.EVAL_PERIOD": 2,
        "TEST.EARLY_STOP_PATIENCE": 5,
        "SOLVER.EMA_DECAY": 0.5,
        "SOLVER.ACCUMULATE": 2,
        "SOLVER.FREEZE_ITERS": 3,
    }
    opts = pairs(options)
    whole = train(tmp_path / "whole", *opts)
    train(tmp_path / "half", *opts, stop=stop)
    again = train(tmp_path / "half", *opts, resume=True)
    assert differing(again.model.state_dict(), whole.model.state_dict()) == []
    assert differing(again.average.average, whole.average.average) == []
    assert again._evaluation.state_dict() == whole._evaluation.state_dict()
    assert again.results["bbox"].keys() == whole.results["bbox"].keys()
    best, other = (torch.load(tmp_path / name / "model_best.pth", weights_only=True) for name in ("whole", "half"))
    assert best["iteration"] == other["iteration"] and differing(best["model"], other["model"]) == []
    assert (tmp_path / "half/last_checkpoint").read_text() == "model_final.pth"


@pytest.mark.slow
def test_a_run_that_ended_early_does_not_train_when_resumed(small_digits, tmp_path):
    options = {
        "DATASETS.TEST": ("digits_val",),
        "TEST.EVAL_PERIOD": 1,
        "TEST.EARLY_STOP_PATIENCE": 2,
        "SOLVER.BASE_LR": 1e-9,
        "SOLVER.BASE_LR_END": 1e-10,
        "SOLVER.FREEZE_ITERS": 6,
        "SOLVER.EMA_DECAY": 0.0,
    }
    opts = pairs(options)
    first = train(tmp_path, *opts)
    state = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert first._evaluation.finished and state["iteration"] == 2
    second = train(tmp_path, *opts, resume=True)
    assert second.start_iter == 3 and second.results["bbox"].keys() == first.results["bbox"].keys()
    assert torch.load(tmp_path / "model_final.pth", weights_only=True)["iteration"] == 2


@pytest.mark.slow
def test_the_backbone_is_frozen_for_the_first_iterations(small_digits, tmp_path):
    loaded = train(tmp_path / "a", "SOLVER.MAX_ITER", 3, "SOLVER.FREEZE_ITERS", 3).model.state_dict()
    frozen = train(tmp_path / "b", "SOLVER.FREEZE_ITERS", 6).model.state_dict()
    moved = train(tmp_path / "c", "SOLVER.FREEZE_ITERS", 5).model.state_dict()
    below = [name for name in loaded if name.startswith("backbone.bottom_up.")]
    assert not [name for name in differing(frozen, loaded) if name in below]
    assert [name for name in differing(moved, loaded) if name in below]
    assert differing(frozen, loaded)


@pytest.mark.slow
def test_with_a_different_batch_size_the_images_start_again_with_a_warning(small_digits, tmp_path, caplog):
    train(tmp_path, stop=3)
    with caplog.at_level("WARNING"):
        train(tmp_path, "SOLVER.IMS_PER_BATCH", 3, resume=True)
    assert "images start from the beginning" in caplog.text


QUICK = {
    "MODEL.BOTTOM_UP.NAME": "build_retina_resnet",
    "MODEL.WEIGHTS": "",
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "TEST.REPORT": False,
    "DATASETS.TEST": (),
    "SOLVER.MAX_ITER": 4,
    "SOLVER.WARMUP_ITERS": 1,
}


def quick(folder, *opts):
    trainer = RetinaTrainer(load_config(DIGITS, [*SMALL, *pairs(QUICK), "OUTPUT_DIR", str(folder), *opts]))
    trainer.train()
    return trainer


@pytest.mark.slow
def test_details_are_in_the_metrics(small_digits, tmp_path):
    quick(tmp_path, "SOLVER.DETAILS_PERIOD", 2)
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert {"loss_cls/p3", "loss_cls/p5", "loss_box_reg/p4", "loss_cls/class 0", "loss_cls/class 9"} <= set(last)
    assert all(last[f"gradient_norm/{part}"] > 0 for part in ("backbone", "neck", "head"))
    by_level = sum(last[f"loss_cls/p{i}"] for i in (3, 4, 5))
    by_class = sum(last[f"loss_cls/class {k}"] for k in range(10))
    assert by_level == pytest.approx(by_class, rel=1e-4)


@pytest.mark.slow
def test_a_step_is_profiled(small_digits, tmp_path, caplog):
    with caplog.at_level("INFO"):
        quick(tmp_path, "SOLVER.PROFILE_ITER", 3)
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert any("convolution" in event.get("name", "") for event in trace["traceEvents"])
    assert any("profile of iteration 3" in text and " ms" in text for text in caplog.messages)
    with pytest.raises(ValueError, match="SOLVER.PROFILE_ITER is 9, but training ends at SOLVER.MAX_ITER 4"):
        quick(tmp_path, "SOLVER.PROFILE_ITER", 9)


@pytest.mark.slow
def test_deterministic_algorithms_are_switched_on_and_off_again(small_digits, tmp_path):
    try:
        first = quick(tmp_path / "a", "DETERMINISTIC", True).detector.state_dict()
        assert torch.are_deterministic_algorithms_enabled()
        second = quick(tmp_path / "b", "DETERMINISTIC", True).detector.state_dict()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first[name], second[name]) for name in first)
    quick(tmp_path / "c")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow
def test_the_mean_of_the_last_weights_is_saved(small_digits, tmp_path):
    trainer = quick(tmp_path, "SOLVER.SWA_ITERS", 2)
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    now, name = trainer.detector.state_dict(), "head.cls_score.weight"
    assert torch.equal(saved[name], trainer.average.average[name]) and not torch.equal(saved[name], now[name])


@pytest.mark.slow
def test_checkpointed_gradients_train_the_same_weights(small_digits, tmp_path):
    plain = quick(tmp_path / "plain").detector.state_dict()
    saving = quick(tmp_path / "saving", "MODEL.CHECKPOINT_GRADIENTS", True).detector.state_dict()
    for name in plain:
        torch.testing.assert_close(plain[name], saving[name], rtol=1e-4, atol=1e-6)
