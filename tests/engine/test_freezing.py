"""Parameters that are not trained, by pattern."""

import pytest
import torch
from conftest import ROOT, SMALL, tiny_cfg

from detectron2.modeling import build_model

from retina_plugin import RetinaTrainer, load_config
from retina_plugin.engine.freezing import FrozenStatistics, freeze_parameters

DIGITS = ROOT / "configs/digits/quickstart.yaml"


def test_patterns_are_of_whole_names():
    model = build_model(tiny_cfg())
    frozen = freeze_parameters(model, ["backbone.fpn_*", "head.*.bias"])
    assert frozen and all(
        name.startswith("backbone.fpn_") or name.startswith("head.") and name.endswith(".bias") for name in frozen
    )
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == set(frozen)
    assert freeze_parameters(model, ["backbone.fpn_*"]) == [], "they are frozen already"


@pytest.mark.parametrize(
    "patterns, said",
    [
        (["backbone.fpn"], "fits no parameter of the model; there is backbone.fpn_"),
        (["nothing*"], "fits no parameter"),
        (["*"], "leaves nothing to train"),
    ],
)
def test_a_pattern_that_fits_nothing_or_everything_is_refused(patterns, said):
    with pytest.raises(ValueError, match=said):
        freeze_parameters(build_model(tiny_cfg()), patterns)


def test_frozen_weights_and_statistics_stay_and_the_others_move(small_digits, tmp_path):
    words = [
        "MODEL.BOTTOM_UP.NAME",
        "build_retina_resnet",
        "MODEL.WEIGHTS",
        "",
        "INPUT.MIN_SIZE_TRAIN",
        (64,),
        "TEST.REPORT",
        False,
        "DATASETS.TEST",
        (),
        "SOLVER.MAX_ITER",
        3,
        "SOLVER.WARMUP_ITERS",
        1,
    ]
    trainer = RetinaTrainer(
        load_config(DIGITS, [*SMALL, *words, "MODEL.FREEZE", ("backbone.bottom_up.*",), "OUTPUT_DIR", str(tmp_path)])
    )
    before = {name: tensor.clone() for name, tensor in trainer.detector.state_dict().items()}
    trainer.train()
    after = trainer.detector.state_dict()
    below = [name for name in before if name.startswith("backbone.bottom_up.")]
    assert any("running_mean" in name for name in below)
    assert all(torch.equal(before[name], after[name]) for name in below)
    assert not torch.equal(before["backbone.fpn_lateral4.weight"], after["backbone.fpn_lateral4.weight"])


def test_a_norm_with_one_trained_parameter_keeps_its_statistics_moving():
    model = build_model(tiny_cfg())
    freeze_parameters(model, ["backbone.bottom_up.stem.conv1.norm.bias"])
    assert FrozenStatistics(model).layers == []
    freeze_parameters(model, ["backbone.bottom_up.stem.conv1.norm.weight"])
    assert len(FrozenStatistics(model).layers) == 1
