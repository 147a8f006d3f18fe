"""The same contract for every registered variant, and every combination of neck, top block and levels."""

import itertools
import json
import re
import subprocess
import sys

import pytest
import torch
from support import BASE, ROOT, TINY, make_inputs, tiny_cfg

from detectron2.modeling import build_model

from retina_plugin import load_config
from retina_plugin.data.digits import generate_digits
from retina_plugin.engine import RetinaTrainer
from retina_plugin.modeling import (
    ASSIGNER_REGISTRY,
    BOX_LOSS_REGISTRY,
    CLS_LOSS_REGISTRY,
    HEAD_REGISTRY,
    NECK_REGISTRY,
    TOP_BLOCK_REGISTRY,
)

REGISTRIES = (ASSIGNER_REGISTRY, BOX_LOSS_REGISTRY, CLS_LOSS_REGISTRY, HEAD_REGISTRY, NECK_REGISTRY, TOP_BLOCK_REGISTRY)
VARIANTS = [(registry, name) for registry in REGISTRIES for name, _ in registry]
OPTIONS = {"none": ["MODEL.RETINANET.LEVELS", [3, 4, 5]]}
"""Options that a variant needs in addition to its name."""

LEARN = [
    "MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", 64, "MODEL.RETINANET.NUM_CONVS", 1,
    "SOLVER.REFERENCE_BATCH_SIZE", 0, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 100, "SOLVER.WARMUP_ITERS", 20,
    "DATASETS.TEST", ("digits_train",), "INPUT.MIN_SIZE_TRAIN", [128], "INPUT.MIN_SIZE_TEST", 128,
    "DATALOADER.NUM_WORKERS", 0,
]  # fmt: skip
"""Options for a small version of the quickstart that is evaluated on its training images."""

LEVELS = ([3, 4, 5, 6, 7], [3, 4, 5], [4, 5, 6, 7], [2, 3, 4, 5, 6, 7], [3, 4, 5, 6, 7, 8], [3, 4])


def cfg_of(registry, name):
    return tiny_cfg("MODEL.FPN.NORM", "BN", *OPTIONS.get(name, []), registry.key, name)


def inputs(objects=True):
    boxes = [[[10.0, 12.0, 60.0, 70.0], [40.0, 30.0, 90.0, 62.0]], []] if objects else [[], []]
    return make_inputs([(96, 128), (80, 100)], boxes, [[0, 2], []] if objects else [[], []])


@pytest.mark.parametrize("registry, name", VARIANTS, ids=[f"{registry._name} {name}" for registry, name in VARIANTS])
class TestContract:
    def test_a_step_is_finite_and_every_parameter_gets_a_gradient(self, registry, name):
        model = build_model(cfg_of(registry, name)).train()
        for objects in (True, False):
            model.zero_grad()
            losses = model(inputs(objects))
            assert all(loss.isfinite() and loss.dtype == torch.float32 and loss.shape == () for loss in losses.values())
            sum(losses.values()).backward()
            trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
            assert [name for name, p in trained if p.grad is None or not p.grad.isfinite().all()] == []

    def test_it_predicts_the_same_after_saving_and_loading(self, registry, name):
        cfg = cfg_of(registry, name)
        model, other = build_model(cfg).eval(), build_model(cfg).eval()
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            a, b = (m(inputs())[0]["instances"] for m in (model, other))
        assert a.pred_boxes.tensor.isfinite().all() and torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)

    def test_its_documentation_names_its_source(self, registry, name):
        text = registry.get(name).__doc__
        assert "20" in text or "this project" in text, text


def named_values():
    """Return (key, name) of every value of a slot that the configs, the README and the docs name."""
    paths = [p for pattern in ("README.md", "docs/*.md", "configs/**/*.yaml") for p in sorted(ROOT.glob(pattern))]
    # The reader of extending.md writes the variants that it names.
    texts = [p.read_text(encoding="utf-8") for p in paths if p.name != "extending.md"]
    page = (ROOT / "docs/keys.md").read_text(encoding="utf-8")
    found = set()
    for registry in REGISTRIES:
        names = {name for name, _ in registry}
        # "KEY name", "KEY: name", "KEY one | two", possibly with the last part of the key only (but NAME is ambiguous).
        leaf = "FPN.NAME" if registry is NECK_REGISTRY else registry.key.rsplit(".")[-1]
        pattern = rf"\b{leaf}[`: ]+([a-z][a-z0-9_]+(?:\s*\|\s*[a-z][a-z0-9_]+)*)"
        lists = [match for text in texts for match in re.findall(pattern, text)]
        found |= {(registry.key, name) for m in lists for name in re.split(r"\s*\|\s*", m)}
        choices = re.search(rf"^\| `{re.escape(registry.key)}` \| [^|]* \| one of ([^|]*) \|", page, re.M)
        found |= {(registry.key, name) for name in choices[1].split(", ")}
        named = {name for key, name in found if key == registry.key} | {"smooth_l1", "giou", "diou", "ciou"}
        assert names <= named, f"{registry.key}: a variant is not documented"
    architecture = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    slots = dict(re.findall(r"\b(assigner|neck|top block) +\(([^)]*)\)", architecture))
    keys = {"assigner": ASSIGNER_REGISTRY.key, "neck": NECK_REGISTRY.key, "top block": TOP_BLOCK_REGISTRY.key}
    found |= {(keys[slot], name) for slot, names in slots.items() for name in names.split(" · ")}
    return sorted(found - {("MODEL.RETINANET.CLS_LOSS", "focal_without_alpha")})  # the example of a custom variant


@pytest.mark.slow
def test_every_documented_value_trains_in_a_process_that_imports_only_the_plugin():
    values = named_values()
    some = [("RETINANET.ASSIGNER", "atss"), ("RETINANET.CLS_LOSS", "ssd_1to3"), ("FPN.TOP_BLOCK", "none")]
    assert {(f"MODEL.{key}", name) for key, name in some} <= set(values) and len(values) >= 20
    program = """
import json, sys, torch, retina_plugin
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
base, common, values, options = json.loads(sys.stdin.read())
instances = Instances((64, 96), gt_boxes=Boxes(torch.tensor([[10.0, 10.0, 60.0, 50.0]])), gt_classes=torch.tensor([1]))
for key, name in values:
    try:
        model = build_model(retina_plugin.load_config(base, [*common, *options.get(name, []), key, name])).train()
        losses = model([{"image": torch.zeros(3, 64, 96), "instances": instances}] * 2)
        assert all(torch.isfinite(loss) for loss in losses.values()), losses
    except Exception as error:
        print(key, name, repr(error))
"""
    given = json.dumps([str(BASE), TINY, values, OPTIONS])
    command = [sys.executable, "-W", "ignore", "-c", program]
    result = subprocess.run(command, input=given, capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr


@pytest.fixture(scope="module")
def two_images(tmp_path_factory):
    root = tmp_path_factory.mktemp("two") / "digits"
    generate_digits(root, splits={"train": 2, "val": 1})
    return root


@pytest.mark.long
@pytest.mark.parametrize("registry, name", VARIANTS, ids=[f"{registry._name} {name}" for registry, name in VARIANTS])
def test_two_images_are_overfitted(registry, name, two_images, monkeypatch, tmp_path):
    monkeypatch.setenv("RETINA_ROOT_DIGITS", str(two_images))
    levels = ["MODEL.RETINANET.LEVELS", [3, 4, 5, 6]] if registry is TOP_BLOCK_REGISTRY and name != "none" else []
    opts = [*LEARN, *levels, registry.key, name, "OUTPUT_DIR", str(tmp_path)]
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", opts)
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.results["bbox"]["AP50"] >= 90


@pytest.mark.parametrize(
    "neck, top_block, levels",
    itertools.product([n for n, _ in NECK_REGISTRY], [n for n, _ in TOP_BLOCK_REGISTRY], LEVELS),
)
def test_every_pyramid_builds_or_is_refused_with_a_reason(neck, top_block, levels):
    opts = ["MODEL.FPN.NAME", neck, "MODEL.FPN.TOP_BLOCK", top_block, "MODEL.RETINANET.LEVELS", levels]
    if top_block == "none" and levels[-1] > 5:
        with pytest.raises(ValueError, match="MODEL.FPN.TOP_BLOCK is 'none'"):
            tiny_cfg(*opts)
        return
    model = build_model(tiny_cfg(*opts)).eval()
    with torch.no_grad():
        features = model.backbone(torch.randn(1, 3, 96, 160))
    assert [f"p{level}" for level in levels] == list(features)
    assert model.anchor_generator.strides == [2**level for level in levels]
