"""Writes a detector as weights and config of Detectron2's own RetinaNet, which runs without the plugin."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from retina_plugin.config import all_keys, get_key
from retina_plugin.export.proof import SIZES_FROM, Differences, problems
from retina_plugin.inference.predictor import RetinaPredictor
from retina_plugin.inference.stream import Found

OURS = ("MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.NAME", "MODEL.WEIGHTS", "DATASETS.TRAIN", "DATASETS.TEST")
"""Keys that both have, with values of the plugin's."""

COMPUTED = ("anchor_generator.", "loss_normalizer")
"""Buffers that follow from the config, or that only training needs."""


def detectron2_config(predictor: RetinaPredictor) -> CfgNode:
    """Return the config of Detectron2's RetinaNet that computes what the plugin's does.

    Raises:
        ValueError: Detectron2's RetinaNet has no such part.
    """
    cfg, model = predictor.cfg, predictor.model
    known = get_cfg()
    if model.soft_nms:
        raise ValueError("Detectron2's RetinaNet has no soft NMS: set MODEL.RETINANET.SOFT_NMS '' with --set")
    if cfg.MODEL.BOTTOM_UP.NAME not in ("build_retina_resnet", "build_resnet_backbone"):
        raise ValueError(f"Detectron2's RetinaNet has a ResNet; the checkpoint has {cfg.MODEL.BOTTOM_UP.NAME}")
    if cfg.MODEL.RETINANET.HEAD_NAME != "retinanet":
        raise ValueError(f"Detectron2's RetinaNet has no head {cfg.MODEL.RETINANET.HEAD_NAME}")
    for key in all_keys(known):
        if key not in OURS and not key.startswith(("SOLVER.", "DATALOADER.")):
            _set(known, key, get_key(cfg, key))
    generator: Any = model.anchor_generator
    levels = list(cfg.MODEL.RETINANET.LEVELS)
    known.MODEL.META_ARCHITECTURE = "RetinaNet"
    known.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    known.MODEL.RESNETS.OUT_FEATURES = [f"res{level}" for level in levels if level <= 5]
    if known.MODEL.RESNETS.DEPTH in (18, 34):  # the plugin needs no key for it
        known.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    known.MODEL.FPN.IN_FEATURES = list(known.MODEL.RESNETS.OUT_FEATURES)
    known.MODEL.RETINANET.IN_FEATURES = [f"p{level}" for level in levels]
    known.MODEL.ANCHOR_GENERATOR.NAME = "DefaultAnchorGenerator"
    known.MODEL.ANCHOR_GENERATOR.OFFSET = float(generator.offset)
    sizes, ratios = _sizes_and_ratios(generator.cell_anchors)
    known.MODEL.ANCHOR_GENERATOR.SIZES, known.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = sizes, ratios
    known.MODEL.RETINANET.SCORE_THRESH_TEST = float(model.score_thresh_test)
    known.MODEL.DEVICE = "cpu"
    return known


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    """Set a key of a config."""
    *sections, last = key.split(".")
    for section in sections:
        cfg = cfg[section]
    cfg[last] = value


def _sizes_and_ratios(cells: Sequence[torch.Tensor]) -> tuple[list[list[float]], list[list[float]]]:
    """Return the sizes and aspect ratios of each level's anchors (A, 4), which are sizes times ratios.

    Detectron2's order is sizes outside, ratios inside; a ratio is height / width.
    """
    sizes, ratios = [], []
    for cell in cells:
        sides = (cell[:, 2:] - cell[:, :2]).double()
        areas = sides.prod(dim=1).sqrt()
        levels = list(dict.fromkeys(round(x, 3) for x in areas.tolist()))
        count = len(cell) // len(levels)
        sizes.append([float(areas[i * count]) for i in range(len(levels))])
        ratios.append((sides[:count, 1] / sides[:count, 0]).tolist())
    return sizes, ratios


def write_detectron2(predictor: RetinaPredictor, file: Path) -> None:
    """Write weights (.pth) and, next to them, a config (.yaml) that names them.

    Raises:
        ValueError: Detectron2's RetinaNet has no such part, or other weights.
    """
    cfg = detectron2_config(predictor)
    state = {name: value.cpu() for name, value in predictor.model.state_dict().items()}
    theirs = build_model(cfg).state_dict()
    lacking, unknown = sorted(set(theirs) - set(state)), sorted(set(state) - set(theirs))
    wrong = [name for name in set(theirs) & set(state) if theirs[name].shape != state[name].shape]
    lacking, unknown = ([name for name in names if not name.startswith(COMPUTED)] for names in (lacking, unknown))
    if lacking or unknown or wrong:
        first = ", ".join([*lacking, *unknown, *wrong][:3])
        raise ValueError(
            f"Detectron2's RetinaNet has other weights: {len(lacking)} of its own, {len(unknown)} that it lacks, "
            f"{len(wrong)} of a different shape ({first}, ...)"
        )
    cfg.MODEL.WEIGHTS = file.name.replace(".unproven", "")
    torch.save({"model": {k: v for k, v in state.items() if k in theirs}, "matching_heuristics": False}, file)
    names = ", ".join(predictor.class_names)
    text = f"# Detectron2's RetinaNet; written by `retina export`. Classes in order: {names}\n{cfg.dump()}"
    file.with_suffix(".yaml").write_text(text, encoding="utf-8")


def prove_detectron2(file: Path, reference: RetinaPredictor, images: Sequence[str]) -> tuple[list[str], list[str]]:
    """Compare Detectron2's model from the written files with the checkpoint, on the same pixels.

    Returns:
        What was found, as sentences, and how it exceeds the bound of float32.
    """
    cfg = get_cfg()
    cfg.merge_from_file(str(file.with_suffix(".yaml")))
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = str(file), "cpu"
    model, found = DefaultPredictor(cfg).model, Differences()
    floor, most = float(cfg.MODEL.RETINANET.SCORE_THRESH_TEST), int(cfg.TEST.DETECTIONS_PER_IMAGE)
    for image in images[:SIZES_FROM]:
        record = reference.map_file(image)
        with torch.no_grad():
            (output,) = model([record])
        theirs, ours = (
            Found(x.pred_boxes.tensor.numpy(), x.scores.numpy(), x.pred_classes.numpy())
            for x in (reference.instances_of([record])[0], output["instances"].to("cpu"))
        )
        found.add(theirs, ours, floor=floor, most=most)
    if not images:
        return ["not compared on images: none here, give --data"], []
    seen = min(len(images), SIZES_FROM)
    differ = f"boxes differ by up to {found.box:.2g} px, scores by up to {found.score:.2g}"
    lines = [f"{found.compared} detections in {seen} images: {differ}; {found.tied} ties, {found.lacking} in one only"]
    if reference.cfg.INPUT.READER != "detectron2":
        lines.append("Detectron2's DefaultPredictor resizes with Pillow, the checkpoint with OpenCV: pixels differ")
    return lines, problems("fp32", found, None, None)
