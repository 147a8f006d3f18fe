"""Run in a fresh process that imports the plugin alone: try every documented value, and print what does not work as JSON."""

import json
import os
import sys
import time
import traceback
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import numpy as np
import torch
from PIL import Image

from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

import retina_plugin
from retina_plugin.config.detectron2_keys import DETECTRON2_KEYS
from retina_plugin.config.keys import KEYS
from retina_plugin.data.loader import build_train_loader
from retina_plugin.data.mapper import build_mapper
from retina_plugin.engine.solver import build_lr_scheduler, build_optimizer

BASE = Path(retina_plugin.__file__).resolve().parents[1] / "configs/Base-RetinaNet.yaml"
TINY = {
    "MODEL.DEVICE": "cpu", "MODEL.BACKBONE.FREEZE_AT": 0, "MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.NORM": "BN", "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.RETINANET.NUM_CONVS": 1, "MODEL.RETINANET.NUM_CLASSES": 3, "MODEL.RETINANET.LEVELS": [3, 4, 5], "SOLVER.AMP.ENABLED": False,
    "SOLVER.IMS_PER_BATCH": 2, "SOLVER.MAX_ITER": 10, "SOLVER.WARMUP_ITERS": 2, "SOLVER.STEPS": (4, 8), "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TRAIN": (48,), "INPUT.MAX_SIZE_TRAIN": 64, "TEST.EVAL_PERIOD": 5,
}  # fmt: skip
ANCHORS = {"MODEL.ANCHOR_GENERATOR.SIZES": [[16.0], [32.0], [64.0]]}
WITH = {
    ("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator"): ANCHORS,
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
    ("MODEL.RESNETS.RES5_DILATION", 2): None,  # fits no pyramid
    ("INPUT.MAX_IMAGE_PIXELS", 1): None,  # leaves every image out, as it should
    ("MODEL.PIXEL_MEAN", None): {"INPUT.FORMAT": "L", "MODEL.PIXEL_STD": [1.0]},
    ("MODEL.PIXEL_STD", None): {"INPUT.FORMAT": "L", "MODEL.PIXEL_MEAN": [1.0]},
    ("INPUT.FORMAT", "L"): {"MODEL.PIXEL_MEAN": [0.0], "MODEL.PIXEL_STD": [1.0]},
    ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"): {"INPUT.MIN_SIZE_TRAIN": (32, 48)},
    ("INPUT.CROP.TYPE", "absolute"): {"INPUT.CROP.ENABLED": True, "INPUT.CROP.SIZE": [16, 16]},
    ("INPUT.CROP.TYPE", "absolute_range"): {"INPUT.CROP.ENABLED": True, "INPUT.CROP.SIZE": [16, 16]},
    ("INPUT.CROP.TYPE", None): {"INPUT.CROP.ENABLED": True},
    ("SOLVER.ACCUMULATE", None): {"SOLVER.IMS_PER_BATCH": 2},
    ("SOLVER.NESTEROV", True): {"SOLVER.MOMENTUM": 0.5},
    ("SOLVER.EPOCHS", 0): {},
    ("SOLVER.AMP.PRECISION", "fp16"): {"SOLVER.AMP.ENABLED": False},
    ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", None): {"SOLVER.CLIP_GRADIENTS.ENABLED": True},
}
"""What a value needs beside it, by key and value, or by key for all of its values; None: it is rightly refused."""

LARGE = {
    "MODEL.RESNETS.WIDTH_PER_GROUP",
    "MODEL.RESNETS.STEM_OUT_CHANNELS",
    "MODEL.FPN.OUT_CHANNELS",
    "MODEL.RETINANET.HEAD_CHANNELS",
    "MODEL.RESNETS.RES2_OUT_CHANNELS",
}
"""Keys whose upper end would need gigabytes: it is loaded and checked, not built."""

COMPILED = "MODEL.COMPILE"
"""Takes a minute for each value, and has tests of its own: loaded and checked only."""


def options(key: str, value: object) -> dict | None:
    """Everything that is set to try a value; None if the value is refused."""
    beside = WITH.get(
        (key, value) if isinstance(value, (str, int, float, bool)) else (key, None), WITH.get((key, None), {})
    )
    return None if beside is None else {**TINY, **beside, key: value}


def try_model(cfg) -> None:
    """Build the detector, and train it on two images."""
    model = build_model(cfg).train()
    inputs = []
    for image_number in range(2):
        instances = Instances((64, 64))
        instances.gt_boxes, instances.gt_classes = (
            Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]])),
            torch.tensor([image_number]),
        )
        inputs.append(
            {
                "image": torch.randint(0, 256, (len(cfg.MODEL.PIXEL_MEAN), 64, 64)).to(torch.uint8),
                "instances": instances,
                "height": 64,
                "width": 64,
            }
        )
    sum(model(inputs).values()).backward()
    with torch.no_grad():
        model.eval()(inputs)


def try_solver(cfg, model: torch.nn.Module) -> None:
    """Step optimizer and schedule from the first iteration to the last."""
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for _ in range(cfg.SOLVER.MAX_ITER if cfg.SOLVER.MAX_ITER < 100 else 3):
        optimizer.step()
        scheduler.step()


def try_data(cfg, folder: Path) -> None:
    """Read a few images through the training's loader, and one through the test's mapper."""
    file = folder / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(file)
    annotation = {"bbox": [10, 10, 50, 50], "bbox_mode": 0, "category_id": 0}
    records = [
        {"file_name": str(file), "height": 60, "width": 80, "image_id": i, "annotations": [annotation]}
        for i in range(4)
    ]
    batches = iter(build_train_loader(cfg, records, build_mapper(cfg, is_train=True)))
    assert len(next(batches)) == cfg.SOLVER.IMS_PER_BATCH
    build_mapper(cfg, is_train=False)(records[0])


def main(folder: Path, beginnings: tuple[str, ...]) -> list[str]:
    """The values that do not work, with the reason; of the keys that begin so, or of all."""
    wrong, tried = [], 0
    linear = torch.nn.Linear(2, 2)
    for name, key in {**KEYS, **DETECTRON2_KEYS}.items():
        for value in key.examples if name.startswith(beginnings or ("",)) else ():
            opts = options(name, value)
            if opts is None:
                continue
            tried += 1
            started = time.perf_counter()
            try:
                cfg = retina_plugin.load_config(BASE, [word for pair in opts.items() for word in pair])
                if name.startswith("MODEL.") and name != COMPILED and not (name in LARGE and value > 1024):
                    try_model(cfg)
                elif name.startswith("SOLVER."):
                    try_solver(cfg, linear)
                elif name.startswith(("INPUT.", "DATALOADER.")) and not (
                    name == "DATALOADER.NUM_WORKERS" and value > 2
                ):
                    try_data(cfg, folder)
            except Exception as error:
                wrong.append(
                    f"{name} {value!r}: {type(error).__name__}: {error} {traceback.extract_tb(error.__traceback__)[-1]}"
                )
            if os.environ.get("SHOW_TIMES"):
                print(
                    f"{time.perf_counter() - started:.1f} s {name} {value!r} {wrong[-1:] if wrong and wrong[-1].startswith(f'{name} {value!r}') else ''}",
                    file=sys.stderr,
                    flush=True,
                )
    print(f"{tried} values tried", file=sys.stderr)
    return wrong


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), tuple(sys.argv[2:]))))
