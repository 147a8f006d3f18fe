"""A small detector and its exported file, shared by the tests of the export."""

import cv2
import numpy as np
import torch
from option_pairs import pairs
from support import DIGITS_CONFIG, SMALL

from detectron2.modeling import build_model

from retina_plugin import load_config, load_predictor
from retina_plugin.engine.checkpoint import RetinaCheckpointer

EXACT = ["SOLVER.AMP.ENABLED", False, "SOLVER.AMP.PRECISION", "fp32"]


def small_checkpoint(folder, config=DIGITS_CONFIG, **keys):
    """A checkpoint with random weights whose scores spread around 0.1; returns its path."""
    options = {"MODEL.RETINANET.PRIOR_PROB": 0.1, "INPUT.MIN_SIZE_TEST": 64, "INPUT.MAX_SIZE_TEST": 128, **keys}
    cfg = load_config(config, [*SMALL, *pairs(options)])
    torch.manual_seed(0)
    model = build_model(cfg)
    with torch.no_grad():
        model.head.cls_score.weight.mul_(20)
    checkpointer = RetinaCheckpointer(model, str(folder), cfg=cfg)
    checkpointer.facts = {"thresholds": {"all": 0.2, "classes": {"3": 0.3}, "f1": 0.5}, "image_size": [60, 80]}
    checkpointer.save("model")
    return folder / "model.pth"


def exact_predictor(checkpoint, **options):
    """The checkpoint in float32 on the CPU."""
    return load_predictor(checkpoint, device="cpu", settings=EXACT, **options)


def photos(folder, sizes=((60, 80), (90, 50), (300, 400))):
    """Files of smooth noise of these sizes."""
    folder.mkdir(exist_ok=True)
    files = []
    for i, (height, width) in enumerate(sizes):
        small = np.random.default_rng(i).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        files.append(str(folder / f"{i}.png"))
        cv2.imwrite(files[-1], cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
    return files
