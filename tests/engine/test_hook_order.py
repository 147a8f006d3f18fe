"""Which hooks a trainer has, and in which order."""

from option_pairs import pairs
from support import ROOT, SMALL

from detectron2.engine import hooks

from retina_plugin import load_config
from retina_plugin.engine import RetinaTrainer
from retina_plugin.engine.ema import WeightAverage
from retina_plugin.engine.evaluation_hook import Evaluation
from retina_plugin.engine.freezing import FrozenStatistics
from retina_plugin.engine.hooks import Checkpoints, ExactResume, FreezeBackbone, GradientNorms, Profile, RunPage
from retina_plugin.engine.progress import Progress

ALL = {
    "SOLVER.MAX_ITER": 4,
    "SOLVER.WARMUP_ITERS": 1,
    "SOLVER.PROFILE_ITER": 2,
    "SOLVER.DETAILS_PERIOD": 1,
    "SOLVER.FREEZE_ITERS": 1,
}


def hooks_of(folder, *opts):
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", [*SMALL, *pairs(ALL), "OUTPUT_DIR", str(folder), *opts])
    return [type(hook) for hook in RetinaTrainer(cfg)._hooks]


def test_state_comes_before_the_checkpoint_and_reports_after_it(small_digits, tmp_path):
    found = hooks_of(tmp_path, "MODEL.FREEZE", ("head.*.bias",), "SOLVER.EMA_DECAY", 0.9, "TEST.REPORT", True)
    assert found == [
        hooks.IterationTimer,
        hooks.LRScheduler,
        Profile,
        FrozenStatistics,
        GradientNorms,
        FreezeBackbone,
        WeightAverage,
        Evaluation,
        ExactResume,
        Checkpoints,
        hooks.PeriodicWriter,
        RunPage,
        Progress,
    ]


def test_precise_bn_runs_before_the_evaluation_if_enabled(small_digits, tmp_path):
    found = hooks_of(tmp_path, "TEST.PRECISE_BN.ENABLED", True)
    assert found.index(hooks.PreciseBN) < found.index(Evaluation)
    assert hooks.PreciseBN not in hooks_of(tmp_path)
