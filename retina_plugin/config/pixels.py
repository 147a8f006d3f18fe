"""The channel order, mean and standard deviation of the pixels that pretrained weights expect."""

import logging
import re
from typing import NamedTuple

import timm

from detectron2.config import CfgNode

from retina_plugin.config.checkpoint_info import config_in_checkpoint
from retina_plugin.config.detectron2_keys import untouched
from retina_plugin.config.key import say_once

logger = logging.getLogger(__name__)


class Pixels(NamedTuple):
    """INPUT.FORMAT, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD; mean and deviation per channel in that order, 0-255."""

    format: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


CAFFE = Pixels("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))
"""MSRA's ResNets and the detectors of Detectron2's model zoo that are based on them."""

CAFFE2_RESNEXT = Pixels("BGR", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
"""Detectron2's X-101-32x8d."""

IMAGENET = Pixels("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""torchvision: (x / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)."""

HALF = Pixels("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
"""TensorFlow's EfficientNet-Lite: (x / 255 - 0.5) / 0.5."""

BY_FILE = [
    (r"X-101-32x8d|faster_rcnn_X_101|retinanet_X_101", CAFFE2_RESNEXT),
    (r"^detectron2://ImageNetPretrained/(MSRA|FAIR)/|^detectron2://COCO-Detection/", CAFFE),
    (r"^detectron2://ImageNetPretrained/torchvision/", IMAGENET),
    (r"efficientnet-lite\d-[0-9a-f]{8}\.pth$", HALF),
    # torchvision's file names: resnet50-0676ba61.pth, retinanet_resnet50_fpn_coco-eeacb38b.pth
    (r"[a-z0-9_]+-[0-9a-f]{8}\.pth$", IMAGENET),
]
"""Pixels by a pattern of the path or address of the weights; the first match counts."""


def pixels_of_weights(cfg: CfgNode) -> Pixels | None:
    """Return the pixels that MODEL.WEIGHTS were trained with, or None if they are not known.

    Example:
        >>> from detectron2.config import get_cfg
        >>> from retina_plugin import add_retina_config
        >>> cfg = get_cfg()
        >>> add_retina_config(cfg)
        >>> cfg.MODEL.WEIGHTS = "models/resnet50-0676ba61.pth"
        >>> pixels_of_weights(cfg).format
        'RGB'
    """
    weights, bottom_up = cfg.MODEL.WEIGHTS, cfg.MODEL.BOTTOM_UP.NAME
    if own := config_in_checkpoint(weights):
        return _configured(CfgNode(own))
    for pattern, pixels in BY_FILE:
        if re.search(pattern, weights):
            return pixels
    if weights and bottom_up == "build_retina_torchvision":
        return IMAGENET
    if weights and bottom_up == "build_retina_timm" and timm.is_model(cfg.MODEL.TIMM.NAME):
        trained = timm.get_pretrained_cfg(cfg.MODEL.TIMM.NAME)
        assert trained is not None, "timm has a record of each of its models"
        mean, std = (tuple(255 * x for x in values) for values in (trained.mean, trained.std))
        return Pixels("RGB", mean, std)
    return None


def resolve_pixels(cfg: CfgNode) -> None:
    """Set INPUT.FORMAT, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD to what MODEL.WEIGHTS expect, in place, and log it.

    The keys keep their values if MODEL.PIXELS_FROM is "config", and also if one of them differs from Detectron2's
    default; in the latter case a warning states what the weights expect.
    """
    wanted, now, default = pixels_of_weights(cfg), _configured(cfg), _configured(untouched())
    if cfg.MODEL.PIXELS_FROM != "weights" or wanted is None or now == wanted:
        return
    if now != default:
        text = (
            f"{cfg.MODEL.WEIGHTS} expects {_describe(wanted)}, but the config sets {_describe(now)}; "
            "keeping the config's values; set MODEL.PIXELS_FROM config to silence this warning"
        )
        say_once(cfg, logger, logging.WARNING, text)
        return
    cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = wanted.format, list(wanted.mean), list(wanted.std)
    logger.info("pixels set to what %s expects: %s", cfg.MODEL.WEIGHTS, _describe(wanted))


def _configured(cfg: CfgNode) -> Pixels:
    """Return the pixels that a config sets."""
    return Pixels(cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD))


def _describe(pixels: Pixels) -> str:
    """Return the pixels in words."""
    mean, std = (", ".join(f"{x:g}" for x in values) for values in (pixels.mean, pixels.std))
    return f"{pixels.format}, mean {mean}, standard deviation {std}"
