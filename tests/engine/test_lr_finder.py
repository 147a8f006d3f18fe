"""The search for a learning rate."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from option_pairs import pairs
from support import ROOT, SMALL

from retina_plugin import RetinaTrainer, load_config
from retina_plugin.engine.lr_finder import Curve, find_lr, write_curve

QUICK = {
    "MODEL.BOTTOM_UP.NAME": "build_retina_resnet",
    "MODEL.WEIGHTS": "",
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "TEST.REPORT": False,
    "DATASETS.TEST": (),
}


def cfg_for(folder, *opts):
    opts = [*SMALL, *pairs(QUICK), "OUTPUT_DIR", str(folder), *opts]
    return load_config(ROOT / "configs/digits/quickstart.yaml", opts)


def test_the_suggestion_is_a_tenth_of_the_rate_with_the_smallest_loss():
    rates = [10.0**-i for i in range(9, 0, -1)]
    assert Curve(rates, [9.0, 9, 9, 9, 9, 5, 1, 3, 8]).suggestion == pytest.approx(1e-4)
    assert Curve(rates, [0.0, 9, 9, 9, 9, 5, 4, 3, 2]).suggestion is None, "the loss still falls at the end"
    assert Curve(rates, [0.0, 9, 9, 9, 9, 1, 4, 3, 2]).suggestion is None and Curve([], []).suggestion is None


@pytest.mark.slow
def test_rates_rise_by_a_factor_and_keep_the_factors_of_groups(small_digits, tmp_path):
    seen = []

    class Watched(RetinaTrainer):
        @classmethod
        def build_optimizer(cls, cfg, model):
            optimizer = super().build_optimizer(cfg, model)
            optimizer.register_step_pre_hook(
                lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
            )
            return optimizer

    curve = find_lr(cfg_for(tmp_path, "SOLVER.BACKBONE_LR_FACTOR", 0.1), trainer=Watched, low=1e-6, high=1e-2, steps=12)
    assert curve.rates[0] == pytest.approx(1e-6) and curve.rates[-1] <= 1e-2 * 1.0001
    ratios = [b / a for a, b in zip(curve.rates, curve.rates[1:], strict=False)]
    assert ratios == pytest.approx([ratios[0]] * len(ratios))
    assert all({round(rate / max(rates), 3) for rate in rates} == {0.1, 1.0} for rates in seen)
    assert max(seen[0]) == pytest.approx(1e-6)
    assert not list(tmp_path.glob("*.pth")) and not (tmp_path / "metrics_earlier.json").exists()


@pytest.mark.slow
def test_the_search_ends_when_the_loss_explodes(small_digits, tmp_path):
    cfg = cfg_for(tmp_path, "SOLVER.OPTIMIZER", "SGD", "SOLVER.MOMENTUM", 0.0)
    curve = find_lr(cfg, trainer=RetinaTrainer, low=1e-4, high=1e6, steps=60)
    assert len(curve.rates) < 60


@pytest.mark.parametrize("low, high, steps", [(0, 1, 20), (1, 1, 20), (1e-3, float("inf"), 20), (1e-3, 1, 3)])
def test_unusable_bounds_are_refused(low, high, steps, tmp_path):
    with pytest.raises(ValueError, match="rates must rise"):
        find_lr(None, trainer=None, low=low, high=high, steps=steps)


def test_curve_and_picture_are_written(tmp_path):
    data, picture = write_curve(Curve([1e-3, 1e-2], [2.0, 1.0]), tmp_path / "new", used=1e-3)
    assert json.loads(data.read_text()) == {"suggestion": None, "rates": [1e-3, 1e-2], "losses": [2.0, 1.0]}
    pixels = plt.imread(picture)  # (H, W, 4), 0..1
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 3, "the curve and a line on the background"
