"""Parameters without a gradient are found, and the model stays as it was."""

import pytest
import torch
from support import ROOT, SMALL, tiny_cfg

from detectron2.modeling import build_model

from retina_plugin import load_config
from retina_plugin.engine import RetinaTrainer
from retina_plugin.engine.gradients import parameters_without_gradient


def test_a_model_whose_parameters_are_all_used_stays_unchanged():
    model = build_model(tiny_cfg("MODEL.FPN.NORM", "BN")).train()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    state = torch.get_rng_state()
    assert parameters_without_gradient(model) == []
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_unused_parameters_are_named():
    model = build_model(tiny_cfg()).train()
    model.extra = torch.nn.Linear(2, 2)
    assert parameters_without_gradient(model) == ["extra.weight", "extra.bias"]


def test_unused_parts_of_a_timm_network_are_named():
    options = ["MODEL.BOTTOM_UP.NAME", "build_retina_timm", "MODEL.TIMM.NAME", "hrnet_w18_small", "MODEL.WEIGHTS", ""]
    names = parameters_without_gradient(build_model(tiny_cfg(*options)).train())
    assert names and all(name.startswith("backbone.bottom_up.net.") for name in names)


def test_several_processes_are_refused_before_training_starts(small_digits, tmp_path, monkeypatch):
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", [*SMALL, "OUTPUT_DIR", str(tmp_path)])
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    monkeypatch.setattr("retina_plugin.engine.trainer.parameters_without_gradient", lambda model: ["backbone.x"])
    with pytest.raises(ValueError, match=r"1 trained parameters get no gradient \(backbone.x\)"):
        RetinaTrainer(cfg)
