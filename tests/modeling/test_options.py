"""Unknown names and options that nothing reads are reported before anything is built."""

import inspect

import pytest
import yaml
from support import BASE, ROOT, tiny_cfg

from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec

from retina_plugin import add_retina_config, load_config
from retina_plugin.ablation import load_sweep
from retina_plugin.config import check_values, get_key, set_key
from retina_plugin.modeling import CLS_LOSS_REGISTRY, unused_options
from retina_plugin.modeling.backbone import build_retina_resnet
from retina_plugin.modeling.options import DETECTRON2_SLOTS
from retina_plugin.registry import SLOTS as ALL_SLOTS

SLOTS = {**{key: registry for key, registry in ALL_SLOTS.items() if key.startswith("MODEL.")}, **DETECTRON2_SLOTS}
NAMES = [
    *(key for key in ALL_SLOTS if " " not in key and key != "SOLVER.HOOKS"),
    *DETECTRON2_SLOTS,
    "MODEL.BACKBONE.NAME",
    "MODEL.META_ARCHITECTURE",
]

FILES = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if not p.name.startswith("Base"))
YAML = {p: yaml.safe_load(p.read_text(encoding="utf-8")) for p in FILES}
CONFIGS = [p for p in FILES if "_BASE_" in YAML[p]]
SWEEPS = [(p, size) for p in FILES if p not in CONFIGS for size in YAML[p]["sizes"]]


def cfg(*opts):
    """Load the plugin's base config with nothing set but ``opts``."""
    return load_config(BASE, ["MODEL.DEVICE", "cpu", "MODEL.RETINANET.NUM_CLASSES", 3, "MODEL.WEIGHTS", "none", *opts])


ANCHORS = "MODEL.ANCHOR_GENERATOR"
# The option, a value of it, the slot and a variant that does not read it, and one that does.
UNUSED = [
    ("MODEL.RETINANET.FOCAL_LOSS_GAMMA", 3.0, "MODEL.RETINANET.CLS_LOSS", "cross_entropy", "focal"),
    ("MODEL.RETINANET.FOCAL_LOSS_GAMMA", 3.0, "MODEL.RETINANET.CLS_LOSS", "balanced_cross_entropy", "focal"),
    ("MODEL.RETINANET.FOCAL_LOSS_ALPHA", 0.5, "MODEL.RETINANET.CLS_LOSS", "ohem", "balanced_cross_entropy"),
    ("MODEL.CLS_LOSS.OHEM_BATCH_SIZE", 128, "MODEL.RETINANET.CLS_LOSS", "ssd_1to3", "ohem_1to3"),
    ("MODEL.CLS_LOSS.OHEM_NMS_THRESH", 0.5, "MODEL.RETINANET.CLS_LOSS", "focal", "ohem"),
    ("MODEL.CLS_LOSS.GHM_BINS", 10, "MODEL.RETINANET.CLS_LOSS", "focal", "ghm"),
    ("MODEL.CLS_LOSS.QUALITY_BETA", 1.0, "MODEL.RETINANET.CLS_LOSS", "varifocal", "quality_focal"),
    ("MODEL.CLS_LOSS.VARIFOCAL_ALPHA", 1.0, "MODEL.RETINANET.CLS_LOSS", "quality_focal", "varifocal"),
    ("MODEL.CLS_LOSS.FOCAL_STAR_BETA", 2.0, "MODEL.RETINANET.CLS_LOSS", "focal", "focal_star"),
    ("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", 0.11, "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "giou", "smooth_l1"),
    ("MODEL.RETINANET.IOU_THRESHOLDS", [0.5, 0.6], "MODEL.RETINANET.ASSIGNER", "atss", "max_iou"),
    ("MODEL.RETINANET.ALLOW_LOW_QUALITY_MATCHES", False, "MODEL.RETINANET.ASSIGNER", "atss", "max_iou"),
    ("MODEL.RETINANET.ATSS_TOPK", 5, "MODEL.RETINANET.ASSIGNER", "max_iou", "atss"),
    ("MODEL.FPN.BIFPN_LAYERS", 2, "MODEL.FPN.NAME", "fpn", "bifpn"),
    ("MODEL.FPN.BIFPN_NORM", "GN", "MODEL.FPN.NAME", "pafpn", "bifpn"),
    ("MODEL.FPN.FUSE_TYPE", "avg", "MODEL.FPN.NAME", "bifpn", "fpn"),
    ("MODEL.FPN.NORM", "GN", "MODEL.FPN.NAME", "bifpn", "pafpn"),
    ("MODEL.TIMM.NAME", "resnet18", "MODEL.BOTTOM_UP.NAME", "build_retina_resnet", "build_retina_timm"),
    ("MODEL.TORCHVISION.NAME", "resnet18", "MODEL.BOTTOM_UP.NAME", "build_retina_timm", "build_retina_torchvision"),
    ("MODEL.RESNETS.DEPTH", 101, "MODEL.BOTTOM_UP.NAME", "build_retina_torchvision", "build_retina_resnet"),
    (f"{ANCHORS}.OFFSET", 0.5, f"{ANCHORS}.NAME", "TorchvisionAnchors", "PyramidAnchorGenerator"),
]


@pytest.mark.parametrize(
    "option, value, slot, without, with_it", UNUSED, ids=[f"{case[0]} {case[3]}" for case in UNUSED]
)
def test_an_option_that_the_chosen_variant_does_not_read_is_reported(option, value, slot, without, with_it):
    trainable = ["MODEL.BACKBONE.FREEZE_AT", 0] if slot == "MODEL.BOTTOM_UP.NAME" else []
    (line,) = unused_options(cfg(option, value, slot, without, *trainable))
    assert line.startswith(f"{option} is {value!r}, which has no effect with {slot} {without}")
    assert unused_options(cfg(option, value, slot, with_it, *trainable)) == []


SIZES = [f"{ANCHORS}.SIZES", [[32], [64], [128], [256], [512]]]
CONDITIONAL = [
    (["MODEL.FPN.TOP_BLOCK", "conv_p5", "MODEL.RETINANET.LEVELS", [3, 4, 5]], "MODEL.FPN.TOP_BLOCK"),
    (["MODEL.FPN.TOP_BLOCK", "max_pool", "MODEL.RETINANET.LEVELS", [4, 5]], "MODEL.FPN.TOP_BLOCK"),
    (["MODEL.RETINANET.NUM_CONVS", 0, "MODEL.RETINANET.HEAD_CHANNELS", 128], "MODEL.RETINANET.HEAD_CHANNELS"),
    (["MODEL.RETINANET.NUM_CONVS", 0, "MODEL.RETINANET.NORM", "GN"], "MODEL.RETINANET.NORM"),
    ([*SIZES, f"{ANCHORS}.SCALE", 2.0], f"{ANCHORS}.SCALE"),
    ([*SIZES, f"{ANCHORS}.SCALES_PER_OCTAVE", 1], f"{ANCHORS}.SCALES_PER_OCTAVE"),
]


@pytest.mark.parametrize("opts, option", CONDITIONAL, ids=[f"{opts[0]} {option}" for opts, option in CONDITIONAL])
def test_an_option_that_a_different_one_disables_is_reported(opts, option):
    (line,) = unused_options(cfg(*opts))
    assert line.startswith(f"{option} is ")


@pytest.mark.parametrize("opts", [
    ["MODEL.FPN.TOP_BLOCK", "none", "MODEL.RETINANET.LEVELS", [3, 4, 5]],
    ["MODEL.FPN.NAME", "bifpn", "MODEL.FPN.NORM", "BN"],
    ["MODEL.FPN.NAME", "bifpn", "MODEL.FPN.NORM", "GN", "MODEL.FPN.EXTRA_CONVS", 1],
    ["MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "giou"],
    ["MODEL.BOTTOM_UP.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", 101],
])  # fmt: skip
def test_options_that_are_read_are_not_reported(opts):
    assert unused_options(cfg(*opts)) == []


def test_a_custom_variant_is_assumed_to_read_every_option_of_its_slot(monkeypatch):
    monkeypatch.setitem(CLS_LOSS_REGISTRY._obj_map, "mine", type("Mine", (), {}))
    assert unused_options(cfg("MODEL.RETINANET.CLS_LOSS", "mine", "MODEL.CLS_LOSS.GHM_BINS", 3)) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_no_shipped_config_sets_an_unread_option(path):
    digits = ["DATASETS.TRAIN", ("digits_train",), "DATASETS.TEST", ("digits_val",)]
    data = digits if path.stem.startswith("finetune") else []
    loaded = load_config(path, ["MODEL.DEVICE", "cpu", *data])
    assert unused_options(loaded) == []


@pytest.mark.parametrize("path, size", SWEEPS, ids=[f"{path.stem} {size}" for path, size in SWEEPS])
def test_no_row_of_a_sweep_sets_an_unread_option(path, size, tmp_path):
    sweep = load_sweep(path, size)
    for run in sweep.runs:
        loaded = sweep.config(run, tmp_path)
        # Options of the base for a variant that a row replaces lose their effect, which is not a mistake of the row.
        named = {*sweep.options, *sweep.changes(run.labels)}
        assert [line for line in unused_options(loaded) if line.split(" ")[0] in named] == [], run.labels


@pytest.mark.parametrize("key", NAMES)
def test_the_error_for_an_unknown_name_lists_the_known_ones(key):
    config = cfg()
    config.defrost()
    known = get_key(config, key)
    set_key(config, key, "nope")
    config.MODEL.RETINANET.LEVELS = [3, 4, 5]  # no top block is needed
    with pytest.raises(ValueError) as error:
        check_values(config)
    parts = [f"{key} is 'nope'", known, "IMPORTS in the config, or --import MODULE"]
    assert [part for part in parts if part not in str(error.value)] == []
    with pytest.raises(ValueError, match=key):
        load_config(BASE, [key, "nope"])


UNDECLARED = {"MODEL.ANCHOR_GENERATOR.OFFSET"}
"""Keys that TorchvisionAnchors reads through its base class but does not use."""


class Recording(CfgNode):
    """A config that records which values are read."""

    def __init__(self, node, read, prefix=""):
        dict.__init__(self)
        self.__dict__["_node"], self.__dict__["_read"], self.__dict__["_prefix"] = node, read, prefix

    def __getattr__(self, name):
        value = self.__dict__["_node"][name]
        key = self.__dict__["_prefix"] + name
        if isinstance(value, CfgNode):
            return Recording(value, self.__dict__["_read"], key + ".")
        self.__dict__["_read"].add(key)
        return value

    def __getitem__(self, name):
        return getattr(self, name)


EVERY = [(slot, name, variant) for slot, registry in SLOTS.items() for name, variant in registry]
DECLARED = [case for case in EVERY if hasattr(case[2], "config_keys")]


def test_every_variant_of_the_plugin_declares_what_it_reads():
    ours = {name for _, name, variant in EVERY if variant.__module__.startswith("retina_plugin.")}
    ours -= {"build_retina_pyramid_backbone"}
    assert ours == {name for _, name, _ in DECLARED} and len(ours) > 25


@pytest.mark.parametrize("slot, name, variant", DECLARED, ids=[f"{slot} {name}" for slot, name, _ in DECLARED])
def test_declared_keys_exist(slot, name, variant):
    defaults = get_cfg()
    add_retina_config(defaults)
    for key in variant.config_keys:
        node = defaults
        for part in key.split("."):
            node = node[part]


def is_built_from_cfg(variant):
    return "cfg" in inspect.signature(variant).parameters or hasattr(variant, "from_config")


BY_CFG = [case for case in DECLARED if is_built_from_cfg(case[2])]


@pytest.mark.parametrize("slot, name, variant", BY_CFG, ids=[f"{slot} {name}" for slot, name, _ in BY_CFG])
def test_the_declared_keys_are_those_that_are_read(slot, name, variant):
    """A variant declares the keys that it reads when it is built, of all keys that any variant declares."""
    opts = []
    if slot == "MODEL.FPN.NAME":
        opts = ["MODEL.FPN.EXTRA_CONVS", 1]
    if name == "build_retina_vit_backbone":
        opts = ["MODEL.DETECTRON2.NAME", "vit_ti", "MODEL.FPN.TOP_BLOCK", "conv_p5"]
    config = tiny_cfg(*opts)
    read: set[str] = set()
    recording, shapes = Recording(config, read), [ShapeSpec(channels=16, stride=2**level) for level in range(3, 8)]
    if slot == "MODEL.FPN.NAME":
        variant(recording, build_retina_resnet(config, ShapeSpec(channels=3)), ["res3", "res4", "res5"], None)
    elif slot == "MODEL.RETINANET.HEAD_NAME":
        variant.from_config(recording, shapes, 9)
    elif slot == "MODEL.ANCHOR_GENERATOR.NAME":
        variant.from_config(recording, shapes)
    else:
        variant(recording, ShapeSpec(channels=3))
    owned = {key for _, _, other in DECLARED for key in other.config_keys}
    assert (read & owned) - UNDECLARED == set(variant.config_keys) - UNDECLARED


OPTION_SLOTS = [f"MODEL.RETINANET.{key}" for key in ("CLS_LOSS", "ASSIGNER", "BBOX_REG_LOSS_TYPE")]
BY_OPTIONS = [case for case in DECLARED if case[0] in OPTION_SLOTS]
ARGUMENTS = {
    "alpha": "FOCAL_LOSS_ALPHA",
    "gamma": "FOCAL_LOSS_GAMMA",
    "beta": "SMOOTH_L1_LOSS_BETA",
    "thresholds": "IOU_THRESHOLDS",
    "labels": "IOU_LABELS",
}


@pytest.mark.parametrize("slot, name, variant", BY_OPTIONS, ids=[f"{slot} {name}" for slot, name, _ in BY_OPTIONS])
def test_the_declared_keys_are_the_arguments_of_the_constructor(slot, name, variant):
    options = set(inspect.signature(variant).parameters) - {"transform", "num_anchors"}
    named = {ARGUMENTS.get(option, option.upper()) for option in options}
    assert {key.rsplit(".")[-1] for key in variant.config_keys} == named
