"""Parameters without a gradient are found, and the model is left as it was."""

import pytest
import torch
from conftest import ROOT, SMALL, tiny_cfg
from detectron2.modeling import build_model

from retina_plugin import load_config
from retina_plugin.engine import RetinaTrainer
from retina_plugin.engine.gradients import parameters_without_gradient

def test_a_model_of_which_all_is_used_stays_as_it_is():
    model = build_model(tiny_cfg("MODEL.FPN.NORM", "BN")).train()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    state = torch.get_rng_state()
    assert parameters_without_gradient(model) == []
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items()) and all(p.grad is None for p in model.parameters())


def test_what_is_not_used_is_named():
    model = build_model(tiny_cfg()).train()
    model.extra = torch.nn.Linear(2, 2)
    assert parameters_without_gradient(model) == ["extra.weight", "extra.bias"]


@pytest.mark.slow
def test_several_processes_are_refused_before_they_start(small_digits, tmp_path, monkeypatch):
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", [*SMALL, "MODEL.TIMM.NAME", "hrnet_w18_small", "MODEL.WEIGHTS", "", "OUTPUT_DIR", str(tmp_path)])
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="trained parameters get no gradient"):
        RetinaTrainer(cfg)
