"""Every shipped config is loaded safely, built on the CPU and stepped once."""

import pytest
import torch
import yaml
from support import ROOT, make_inputs

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from retina_plugin import load_config
from retina_plugin.ablation import load_sweep
from retina_plugin.config import all_keys, get_key
from retina_plugin.engine.solver import build_lr_scheduler, build_optimizer

pytestmark = pytest.mark.slow

FILES = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if not p.name.startswith("Base"))
CONFIGS = [p for p in FILES if "_BASE_" in yaml.safe_load(p.read_text(encoding="utf-8"))]
SWEEPS = [
    (p, size) for p in FILES if p not in CONFIGS for size in yaml.safe_load(p.read_text(encoding="utf-8"))["sizes"]
]
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", 32, "MODEL.RETINANET.NUM_CONVS", 1]
BOXES = [[[10.0, 10.0, 60.0, 50.0]], []]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_a_config_loads_builds_and_steps(path, small_digits):
    yaml.safe_load(path.read_text(encoding="utf-8"))
    # These leave their datasets to the user.
    digits = ["DATASETS.TRAIN", ("digits_train",), "DATASETS.TEST", ("digits_val",)]
    datasets = dict.fromkeys(["finetune", "finetune_coco", "finetune_coco_torchvision"], digits)
    cfg = load_config(path, [*SMALL, *datasets.get(path.stem, [])])
    model = build_model(cfg).train()
    # No weights are loaded here, and the signal would explode in random layers with frozen normalisation.
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("norm.weight"):
                buffer.fill_(0.3)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    with EventStorage():  # Detectron2's R-CNN logs in every step, which needs a storage
        losses = model(make_inputs([(64, 96), (64, 64)], BOXES, [[cfg.MODEL.RETINANET.NUM_CLASSES - 1], []]))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    optimizer.step()
    scheduler.step()
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_a_config_contains_only_what_differs_from_its_base(path):
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = CfgNode(CfgNode.load_yaml_with_base(str((path.parent / own.pop("_BASE_")).resolve())))

    def repeated(node, below, prefix=""):
        """Yield the dotted keys whose value is that of the base."""
        for key, value in node.items():
            if isinstance(value, dict):
                yield from repeated(value, below.get(key, {}), f"{prefix}{key}.")
            elif key in below and below[key] == value:
                yield prefix + key

    assert list(repeated(own, base)) == []


@pytest.mark.parametrize("path, size", SWEEPS, ids=[f"{path.stem} {size}" for path, size in SWEEPS])
def test_a_run_of_a_sweep_changes_only_the_keys_that_the_sweep_names(path, size, tmp_path):
    sweep = load_sweep(path, size)
    sweep.check()
    base = load_config(sweep.base)
    for run in sweep.runs:
        cfg = sweep.config(run, tmp_path)
        differing = {key for key in all_keys(cfg) if get_key(cfg, key) != get_key(base, key)}
        named = {*sweep.options, *sweep.changes(run.labels)}
        if "MODEL.WEIGHTS" in named:  # the pixels follow the weights
            named |= {"INPUT.FORMAT", "MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD"}
        assert differing <= named | {"SEED", "OUTPUT_DIR"}
    # Every key of an axis differs from the base in at least one run; otherwise it would not belong there.
    for axis in sweep.axes.values():
        for key in {key for changes in axis.values() for key in changes}:
            assert any(get_key(sweep.config(run, tmp_path), key) != get_key(base, key) for run in sweep.runs), key


def test_every_sweep_has_both_sizes_and_the_papers_tables_have_its_figures():
    names = {
        "table_1a",
        "table_1b",
        "table_1c",
        "table_1d",
        "table_1e",
        "levels",
        "neck",
        "channels",
        "backbone",
        "assigner",
        "box_loss",
    }
    plans = {
        "plan_flips",
        "plan_ingredients",
        "plan_rules",
        "plan_schedule",
        "plan_size",
        "plan_weights",
    }  # on small data, not on COCO
    assert {path.stem for path, _ in SWEEPS} == names | {"small_objects", "research"} | plans
    assert all((path, size) in SWEEPS for path, _ in SWEEPS if path.stem in names for size in ("reduced", "paper"))
    assert all(load_sweep(path, "paper").paper for path, _ in SWEEPS if path.stem.startswith("table"))


def test_base_files_are_safe_yaml():
    for path in (ROOT / "configs").rglob("Base*.yaml"):
        yaml.safe_load(path.read_text(encoding="utf-8"))
