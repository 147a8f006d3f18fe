"""Program that tries every documented value and records which keys are read; it prints both as JSON.

It runs in a fresh process that imports the plugin alone: ``python -W ignore every_value.py FOLDER [PREFIX ...]``.
"""

import inspect
import json
import os
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode as AnyCfgNode

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

import retina_plugin
from retina_plugin.config.detectron2_keys import DETECTRON2_KEYS
from retina_plugin.config.keys import KEYS
from retina_plugin.data.digits import generate_digits
from retina_plugin.data.loader import build_train_loader
from retina_plugin.data.mapper import build_mapper
from retina_plugin.engine import argument_parser, run
from retina_plugin.engine.solver import build_lr_scheduler, build_optimizer
from retina_plugin.modeling import CLS_LOSS_REGISTRY

CONFIGS = Path(retina_plugin.__file__).resolve().parents[1] / "configs"
BASE = CONFIGS / "Base-RetinaNet.yaml"
TINY = {
    "MODEL.DEVICE": "cpu", "MODEL.BACKBONE.FREEZE_AT": 0, "MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.NORM": "BN",
    "MODEL.FPN.OUT_CHANNELS": 32, "MODEL.RETINANET.NUM_CONVS": 1, "MODEL.RETINANET.NUM_CLASSES": 3,
    "MODEL.RETINANET.LEVELS": [3, 4, 5], "SOLVER.AMP.ENABLED": False, "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 10, "SOLVER.WARMUP_ITERS": 2, "SOLVER.STEPS": (4, 8), "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TRAIN": (48,), "INPUT.MAX_SIZE_TRAIN": 64, "TEST.EVAL_PERIOD": 5,
}  # fmt: skip
GREY = {"INPUT.FORMAT": "L", "MODEL.PIXEL_MEAN": [0.0], "MODEL.PIXEL_STD": [1.0]}
EPOCHS = {"SOLVER.EPOCHS": 1, "DATASETS.TRAIN": ("digits_train",), "MODEL.RETINANET.NUM_CLASSES": 0}
CROP_IN_PIXELS = {"INPUT.CROP.ENABLED": True, "INPUT.CROP.SIZE": [16, 16]}
WITH: dict[tuple[str, object], dict | None] = {
    ("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator"): {
        "MODEL.ANCHOR_GENERATOR.SIZES": [[16.0], [32.0], [64.0]]
    },
    ("MODEL.RETINANET.ATSS_TOPK", None): {"MODEL.RETINANET.ASSIGNER": "atss"},
    ("MODEL.RETINANET.NUM_CLASSES", 0): {"DATASETS.TRAIN": ("digits_train",)},
    ("MODEL.FPN.BIFPN_NORM", None): {"MODEL.FPN.NAME": "bifpn"},
    ("MODEL.FPN.BIFPN_LAYERS", None): {"MODEL.FPN.NAME": "bifpn"},
    ("MODEL.FPN.TOP_BLOCK", None): {"MODEL.RETINANET.LEVELS": [3, 4, 5, 6, 7]},
    ("MODEL.FPN.TOP_BLOCK", "none"): {},
    ("MODEL.ANCHOR_GENERATOR.SIZES", None): {"MODEL.RETINANET.LEVELS": [4]},
    ("MODEL.RESNETS.NUM_GROUPS", None): {"MODEL.RESNETS.DEPTH": 50, "MODEL.RESNETS.WIDTH_PER_GROUP": 1},
    ("MODEL.RESNETS.WIDTH_PER_GROUP", None): {"MODEL.RESNETS.DEPTH": 50, "MODEL.RESNETS.STEM_OUT_CHANNELS": 8},
    ("MODEL.BACKBONE.FREEZE_AT", 5): {"MODEL.WEIGHTS": "x.pth"},
    ("MODEL.RESNETS.NORM", "FrozenBN"): {"MODEL.WEIGHTS": "x.pth"},
    ("MODEL.RESNETS.RES5_DILATION", 2): None,  # no pyramid fits it
    ("INPUT.MAX_IMAGE_PIXELS", 1): None,  # leaves every image out, as it should
    ("MODEL.PIXEL_MEAN", None): GREY,
    ("MODEL.PIXEL_STD", None): GREY,
    ("INPUT.FORMAT", "L"): GREY,
    ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"): {"INPUT.MIN_SIZE_TRAIN": (32, 48)},
    ("INPUT.CROP.TYPE", "absolute"): CROP_IN_PIXELS,
    ("INPUT.CROP.TYPE", "absolute_range"): CROP_IN_PIXELS,
    ("INPUT.CROP.TYPE", None): {"INPUT.CROP.ENABLED": True},
    ("SOLVER.ACCUMULATE", None): {"SOLVER.IMS_PER_BATCH": 2},
    ("SOLVER.NESTEROV", True): {"SOLVER.MOMENTUM": 0.5},
    ("SOLVER.WARMUP_EPOCHS", None): EPOCHS,
    ("SOLVER.FREEZE_EPOCHS", None): EPOCHS,
    ("TEST.EVAL_EPOCHS", None): EPOCHS,
    ("SOLVER.EPOCHS", 0): {},
    ("SOLVER.AMP.PRECISION", "fp16"): {"SOLVER.AMP.ENABLED": False},
    ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", None): {"SOLVER.CLIP_GRADIENTS.ENABLED": True},
}
"""What a value needs in addition, by key and value, or by key for all of its values; None: it is rightly refused."""

LARGE = {
    "MODEL.RESNETS.WIDTH_PER_GROUP",
    "MODEL.RESNETS.STEM_OUT_CHANNELS",
    "MODEL.FPN.OUT_CHANNELS",
    "MODEL.RETINANET.HEAD_CHANNELS",
    "MODEL.RESNETS.RES2_OUT_CHANNELS",
}
"""Keys whose upper end would need gigabytes; it is loaded and checked, not built."""

COMPILED = "MODEL.COMPILE"
"""Takes a minute per value and has tests of its own; it is loaded and checked only."""

TRAINING = {
    "MODEL.RETINANET.NUM_CLASSES": 10, "MODEL.WEIGHTS": "", "SOLVER.REFERENCE_BATCH_SIZE": 0, "SOLVER.MAX_ITER": 2,
    "SOLVER.STEPS": (), "SOLVER.WARMUP_ITERS": 1, "SOLVER.CHECKPOINT_PERIOD": 2, "TEST.EVAL_PERIOD": 2,
    "TEST.TILES.SIZE": 64, "TEST.AUG.ENABLED": True, "TEST.AUG.MIN_SIZES": (48,), "TEST.AUG.MAX_SIZE": 64,
    "TEST.SIZES": (64,), "TEST.PRECISE_BN.ENABLED": True, "TEST.PRECISE_BN.NUM_ITER": 1, "SOLVER.SWA_ITERS": 1,
    "DATASETS.FINAL_TEST": ("digits_val",), "MODEL.BOTTOM_UP.NAME": "build_retina_resnet",
}  # fmt: skip
"""What a short training sets in addition: everything whose other keys are read only if it is switched on."""

CHECKS = {"key", "kinds", "check", "contradictions", "model_contradictions"}
NOT_READERS = {f"retina_plugin.config.{name}" for name in CHECKS} | {
    "yacs.config", "fvcore.common.config", "detectron2.config.config", "copy",
}  # fmt: skip
"""Modules that look at every key, or look at a key only to refuse it; a key that only they read has no effect."""

READERS: defaultdict[str, set[str]] = defaultdict(set)
"""Modules that have read a key, by key."""


def record(node: CfgNode, name: str, module: str) -> object:
    """Return an entry of a config, and note who reads it.

    A node learns its path when it is reached from the root; clones keep it.
    """
    value = dict.__getitem__(node, name)
    key = node.__dict__.get("recorded_path", "") + str(name)
    if isinstance(value, AnyCfgNode):
        value.__dict__["recorded_path"] = f"{key}."
    elif module not in NOT_READERS:
        READERS[key].add(module)
    return value


def record_reads() -> None:
    """Note from now on which module reads which key of any config, by attribute or by index."""

    def get_attribute(node: CfgNode, name: str) -> object:
        """Do what CfgNode does."""
        if name not in node:
            raise AttributeError(name)
        return record(node, name, sys._getframe(1).f_globals["__name__"])

    def get_item(node: CfgNode, name: str) -> object:
        """Do what dict does."""
        return record(node, name, sys._getframe(1).f_globals["__name__"])

    AnyCfgNode.__getattr__, AnyCfgNode.__getitem__ = get_attribute, get_item
    build = CLS_LOSS_REGISTRY.build

    def build_loss(name: str, **offered: object) -> object:
        """Build a loss: it gets those keys of MODEL.CLS_LOSS that its constructor names."""
        loss = build(name, **offered)
        for argument in set(offered) & set(inspect.signature(type(loss)).parameters):
            READERS[f"MODEL.CLS_LOSS.{argument.upper()}"].add(type(loss).__module__)
        return loss

    CLS_LOSS_REGISTRY.build = build_loss


def options(key: str, value: object) -> dict | None:
    """Return everything that is set to try a value; None if the value is refused."""
    exact = (key, value) if isinstance(value, (str, int, float, bool)) else (key, None)
    needed = WITH.get(exact, WITH.get((key, None), {}))
    return None if needed is None else {**TINY, **needed, key: value}


def in_pairs(opts: Mapping[str, object]) -> list[object]:
    """Return alternating keys and values."""
    return [word for pair in opts.items() for word in pair]


def try_model(cfg: CfgNode) -> None:
    """Build the detector, train it on two images and run it on them."""
    model = build_model(cfg).train()
    inputs = []
    for label in range(2):
        instances = Instances((64, 64))
        instances.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]]))
        instances.gt_classes = torch.tensor([label])
        image = torch.randint(0, 256, (len(cfg.MODEL.PIXEL_MEAN), 64, 64)).to(torch.uint8)
        inputs.append({"image": image, "instances": instances, "height": 64, "width": 64})
    sum(model(inputs).values()).backward()
    with torch.no_grad():
        model.eval()(inputs)


def try_solver(cfg: CfgNode) -> None:
    """Step optimizer and schedule of a small model from the first iteration to the last."""
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for _ in range(cfg.SOLVER.MAX_ITER if cfg.SOLVER.MAX_ITER < 100 else 3):
        optimizer.step()
        scheduler.step()


def try_data(cfg: CfgNode, folder: Path) -> None:
    """Read a few images through the training loader, and one through the mapper of the test."""
    file = folder / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(file)
    annotation = {"bbox": [10, 10, 50, 50], "bbox_mode": 0, "category_id": 0}
    record = {"file_name": str(file), "height": 60, "width": 80, "annotations": [annotation]}
    records = [{**record, "image_id": i} for i in range(4)]
    batches = iter(build_train_loader(cfg, records, build_mapper(cfg, is_train=True)))
    assert len(next(batches)) == cfg.SOLVER.IMS_PER_BATCH
    build_mapper(cfg, is_train=False)(records[0])


def try_training(folder: Path) -> None:
    """Train for two iterations on a few digits, and evaluate."""
    opts = {**TINY, **TRAINING, "OUTPUT_DIR": folder / "run"}
    file = CONFIGS / "digits/quickstart.yaml"
    run(argument_parser().parse_args(["--config-file", str(file), *map(str, in_pairs(opts))]))


def try_value(name: str, value: object, opts: Mapping[str, object], folder: Path) -> None:
    """Load a config with the value, and build what the key belongs to."""
    cfg = retina_plugin.load_config(BASE, in_pairs(opts))
    too_large = (name in LARGE and value > 1024) or (name == "DATALOADER.NUM_WORKERS" and value > 2)
    if too_large or name == COMPILED:
        return
    if name.startswith("MODEL."):
        try_model(cfg)
    elif name.startswith("SOLVER."):
        try_solver(cfg)
    elif name.startswith(("INPUT.", "DATALOADER.")):
        try_data(cfg, folder)


def main(folder: Path, prefixes: tuple[str, ...]) -> dict:
    """Try the values of the keys with these prefixes, or of all keys.

    Returns:
        {"tried": number of values, "wrong": those that do not work, with the reason, "readers": modules by key}.
    """
    record_reads()
    generate_digits(Path(os.environ["RETINA_ROOT_DIGITS"]), splits={"train": 8, "val": 4})
    wrong, tried = [], 0
    for name, key in {**KEYS, **DETECTRON2_KEYS}.items():
        for value in key.examples if name.startswith(prefixes or ("",)) else ():
            opts = options(name, value)
            if opts is None:
                continue
            tried, started = tried + 1, time.perf_counter()
            try:
                try_value(name, value, opts, folder)
            except Exception as error:  # noqa: BLE001 - all values that do not work are reported together
                place = traceback.extract_tb(error.__traceback__)[-1]
                wrong.append(f"{name} {value!r}: {type(error).__name__}: {error} {place}")
            if os.environ.get("SHOW_TIMES"):
                print(f"{time.perf_counter() - started:.1f} s {name} {value!r}", file=sys.stderr, flush=True)
    if not prefixes:
        try_training(folder)
    return {"tried": tried, "wrong": wrong, "readers": {key: sorted(found) for key, found in READERS.items()}}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), tuple(sys.argv[2:]))))
