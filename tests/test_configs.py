"""Every shipped config: read safely, built on the CPU, stepped once."""

import pytest
import torch
import yaml
from conftest import ROOT, make_inputs
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from retina_plugin import load_config
from retina_plugin.engine.solver import build_lr_scheduler, build_optimizer

CONFIGS = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if not p.name.startswith("Base"))
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", 32, "MODEL.RETINANET.NUM_CONVS", 1]
BOXES = [[[10.0, 10.0, 60.0, 50.0]], []]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_a_config_loads_builds_and_steps(path):
    yaml.safe_load(path.read_text())
    cfg = load_config(path, SMALL)
    model = build_model(cfg).train()
    # No weights are loaded here: frozen random normalisation would let the signal explode.
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("norm.weight"):
                buffer.fill_(0.3)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    losses = model(make_inputs([(64, 96), (64, 64)], BOXES, [[cfg.MODEL.RETINANET.NUM_CLASSES - 1], []]))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    optimizer.step()
    scheduler.step()
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_a_config_says_only_what_differs_from_its_base(path):
    own = yaml.safe_load(path.read_text())
    base = CfgNode(CfgNode.load_yaml_with_base(str((path.parent / own.pop("_BASE_")).resolve())))

    def repeated(node, below, prefix=""):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from repeated(value, below.get(key, {}), f"{prefix}{key}.")
            elif key in below and below[key] == value:
                yield prefix + key

    assert list(repeated(own, base)) == []


def test_base_files_are_safe_yaml():
    for path in (ROOT / "configs").rglob("Base*.yaml"):
        yaml.safe_load(path.read_text())
