"""Exit codes, and one last line that gives the reason."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch
from option_pairs import pairs
from support import ROOT, SMALL

from detectron2.data import build_detection_train_loader
from detectron2.engine import HookBase
from detectron2.utils.env import seed_all_rng

from retina_plugin import load_config
from retina_plugin.data.mapper import build_mapper
from retina_plugin.engine import RetinaTrainer
from retina_plugin.engine.ending import (
    DIVERGED,
    ERROR,
    STOPPED,
    UNEXPECTED,
    ProcessEnded,
    StartError,
    Stopped,
    exit_code,
    starting,
)
from retina_plugin.engine.loop import DataLoadingError, TrainingDiverged

pytestmark = pytest.mark.slow

DIGITS = ROOT / "configs/digits/quickstart.yaml"


def raising(error):
    def call():
        raise error

    return call


def chained():
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "model.pth")
    except OSError:
        raise RuntimeError("unexpected pos 64 vs 0") from None


@pytest.mark.parametrize(
    "error, code, text",
    [
        (ValueError("no such key"), ERROR, "error: no such key"),
        (TypeError("a tuple"), ERROR, "error: a tuple"),
        (FileNotFoundError("x is gone"), ERROR, "error: x is gone"),
        (PermissionError(errno.EACCES, "Permission denied", "/out"), ERROR, "error: /out: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device", "m.pth"), ERROR, "m.pth cannot be written"),
        (StartError("the run cannot start"), ERROR, "cannot start"),
        (DataLoadingError("a worker died"), ERROR, "a worker died"),
        (TrainingDiverged("nan"), DIVERGED, "error: nan"),
        (torch.OutOfMemoryError("CUDA out of memory."), ERROR, "out of memory"),
        (Stopped(signal.SIGTERM, "train --resume"), STOPPED, "this continues the run:\n  train --resume"),
        (Stopped(signal.SIGTERM), 143, "nothing was written"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT"),
        (ValueError("a\x1b[31mb"), ERROR, r"a\x1b[31mb"),
    ],
)
def test_each_error_has_its_code_and_its_line(error, code, text, capsys):
    assert exit_code(raising(error)) == code
    err = capsys.readouterr().err
    assert text in err and "Traceback" not in err


def test_a_bug_shows_its_trace_and_its_reason_last(capsys):
    assert exit_code(raising(ZeroDivisionError("by zero"))) == UNEXPECTED
    err = capsys.readouterr().err
    assert "Traceback" in err and err.splitlines()[-1] == "error: ZeroDivisionError: by zero"


def test_a_full_disk_is_recognised_whatever_wraps_its_error(capsys):
    assert exit_code(chained) == ERROR and "No space left on device" in capsys.readouterr().err
    assert exit_code(raising(ProcessEnded(3))) == 3 and exit_code(lambda: None) == 0 and exit_code(lambda: 2) == 2


@pytest.mark.parametrize("error, text", [(KeyError("x"), "start: x"), (ZeroDivisionError("y"), "ZeroDivisionError: y")])
def test_any_error_before_training_can_be_fixed_by_the_user(error, text):
    with pytest.raises(StartError, match=f"the run cannot .*{text}"), starting():
        raise error


def test_an_error_that_explains_itself_is_passed_on():
    with pytest.raises(FileNotFoundError, match="gone"), starting():
        raise FileNotFoundError("gone")


class Signal(HookBase):
    """Sends this process a signal at an iteration."""

    def __init__(self, iteration, number):
        self.iteration, self.number = iteration, number

    def before_step(self):
        if self.trainer.iter == self.iteration:
            os.kill(os.getpid(), self.number)


def train(folder, *opts, stop=None, resume=False, kind=RetinaTrainer):
    options = {"OUTPUT_DIR": str(folder), "SOLVER.MAX_ITER": 5, "SOLVER.WARMUP_ITERS": 1, "TEST.REPORT": False}
    cfg = load_config(DIGITS, [*SMALL, *pairs(options), *opts])
    seed_all_rng(cfg.SEED)
    trainer = kind(cfg)
    trainer.resume_or_load(resume=resume)
    if stop:
        trainer.register_hooks([stop])
    trainer.train()
    return trainer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_stopped_by_a_signal_and_resumed_equals_an_uninterrupted_one(number, small_digits, tmp_path):
    options = ["DATASETS.TEST", (), "SOLVER.EMA_DECAY", 0.5]
    whole = train(tmp_path / "whole", *options)
    with pytest.raises(Stopped) as stopped:
        train(tmp_path / "half", *options, stop=Signal(2, number))
    assert stopped.value.signal == number and f"--resume OUTPUT_DIR {tmp_path / 'half'}" in stopped.value.command
    assert torch.load(tmp_path / "half/model_0000002.pth", weights_only=True)["iteration"] == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    again = train(tmp_path / "half", *options, resume=True)
    assert again.start_iter == 3
    assert [n for n, x in again.model.state_dict().items() if not torch.equal(x, whole.model.state_dict()[n])] == []


def test_an_interrupted_evaluation_is_repeated_when_the_run_is_resumed(small_digits, tmp_path):
    options = ["DATASETS.TEST", ("digits_val",), "TEST.EVAL_PERIOD", 2]
    whole = train(tmp_path / "whole", *options)

    class Interrupted(RetinaTrainer):
        def evaluate_now(self):
            if self.iter == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().evaluate_now()

    with pytest.raises(Stopped):
        train(tmp_path / "half", *options, kind=Interrupted)
    again = train(tmp_path / "half", *options, resume=True)
    assert again.start_iter == 2 and again._evaluation.state_dict() == whole._evaluation.state_dict()
    best = [torch.load(tmp_path / name / "model_best.pth", weights_only=True) for name in ("whole", "half")]
    assert best[0]["iteration"] == best[1]["iteration"]


class WithDetectron2sLoader(RetinaTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return build_detection_train_loader(cfg, mapper=build_mapper(cfg, is_train=True))


def test_a_trainer_with_detectron2s_own_loader_trains_saves_and_resumes(small_digits, tmp_path, caplog):
    train(tmp_path, "DATASETS.TEST", (), "SOLVER.CHECKPOINT_PERIOD", 2, kind=WithDetectron2sLoader)
    assert {"model_0000001.pth", "model_0000003.pth", "model_final.pth"} <= {path.name for path in tmp_path.iterdir()}
    again = train(tmp_path, "DATASETS.TEST", (), "SOLVER.MAX_ITER", 7, resume=True, kind=WithDetectron2sLoader)
    assert again.start_iter == 5 and (tmp_path / "model_final.pth").exists()


def test_a_failing_loader_is_reported_and_the_weights_are_not_lost(small_digits, tmp_path):
    class Ends(RetinaTrainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return TwoBatches(super().build_train_loader(cfg))

    with pytest.raises(DataLoadingError, match="reading failed"):
        train(tmp_path, "DATASETS.TEST", (), "SOLVER.CHECKPOINT_PERIOD", 1, kind=Ends)
    assert (tmp_path / "model_0000001.pth").exists()


class TwoBatches:
    """A loader that yields two batches, then fails."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        batches = iter(self.loader)
        yield next(batches)
        yield next(batches)
        raise OSError("reading failed")


FULL = """
import resource, sys
from retina_plugin.engine import argument_parser, exit_code, run
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))  # no room for a checkpoint
sys.exit(exit_code(lambda: run(argument_parser().parse_args(sys.argv[1:])) and 0))
"""


def test_a_full_disk_is_the_last_line(small_digits, tmp_path):
    options = {"SOLVER.MAX_ITER": 2, "SOLVER.WARMUP_ITERS": 1, "DATASETS.TEST": (), "OUTPUT_DIR": tmp_path / "o"}
    words = ["--config-file", str(DIGITS), *map(str, [*SMALL, *pairs(options)])]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FULL, *words]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env)
    assert result.returncode == ERROR, result.stderr[-2000:]
    assert result.stderr.splitlines()[-1].startswith("error: File too large: ") and "Traceback" not in result.stderr
    assert not list((tmp_path / "o").glob("*.pth"))
