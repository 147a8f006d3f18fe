"""Parameters are excluded from training by patterns."""

import pytest
import torch
from option_pairs import pairs
from support import ROOT, SMALL, tiny_cfg

from detectron2.modeling import build_model

from retina_plugin import RetinaTrainer, load_config
from retina_plugin.engine.freezing import FrozenStatistics, freeze_parameters

DIGITS = ROOT / "configs/digits/quickstart.yaml"


def test_patterns_match_whole_names():
    model = build_model(tiny_cfg())
    frozen = freeze_parameters(model, ["backbone.fpn_*", "head.*.bias"])
    of_neck = [name for name in frozen if name.startswith("backbone.fpn_")]
    biases = [name for name in frozen if name.startswith("head.") and name.endswith(".bias")]
    assert of_neck and biases and set(frozen) == {*of_neck, *biases}
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == set(frozen)
    assert freeze_parameters(model, ["backbone.fpn_*"]) == [], "they are frozen already"


@pytest.mark.parametrize(
    "patterns, text",
    [
        (["backbone.fpn"], "matches no parameter of the model; there is backbone.fpn_"),
        (["nothing*"], "matches no parameter"),
        (["*"], "leaves nothing to train"),
    ],
)
def test_a_pattern_that_matches_nothing_or_everything_is_refused(patterns, text):
    with pytest.raises(ValueError, match=text):
        freeze_parameters(build_model(tiny_cfg()), patterns)


def test_frozen_weights_and_statistics_stay_and_the_others_are_trained(small_digits, tmp_path):
    options = {
        "MODEL.BOTTOM_UP.NAME": "build_retina_resnet",
        "MODEL.WEIGHTS": "",
        "MODEL.FREEZE": ("backbone.bottom_up.*",),
        "INPUT.MIN_SIZE_TRAIN": (64,),
        "TEST.REPORT": False,
        "DATASETS.TEST": (),
        "SOLVER.MAX_ITER": 3,
        "SOLVER.WARMUP_ITERS": 1,
        "OUTPUT_DIR": str(tmp_path),
    }
    trainer = RetinaTrainer(load_config(DIGITS, [*SMALL, *pairs(options)]))
    before = {name: tensor.clone() for name, tensor in trainer.detector.state_dict().items()}
    trainer.train()
    after = trainer.detector.state_dict()
    below = [name for name in before if name.startswith("backbone.bottom_up.")]
    assert any("running_mean" in name for name in below)
    assert all(torch.equal(before[name], after[name]) for name in below)
    assert not torch.equal(before["backbone.fpn_lateral4.weight"], after["backbone.fpn_lateral4.weight"])


def test_a_norm_with_one_trained_parameter_keeps_updating_its_statistics():
    model = build_model(tiny_cfg())
    freeze_parameters(model, ["backbone.bottom_up.stem.conv1.norm.bias"])
    assert FrozenStatistics(model).layers == []
    freeze_parameters(model, ["backbone.bottom_up.stem.conv1.norm.weight"])
    assert len(FrozenStatistics(model).layers) == 1
