"""What range, order and mean of the pixels pretrained weights expect."""

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
    """INPUT.FORMAT, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD (per channel, in that order, of values 0-255)."""

    format: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CAFFE = Pixels("BGR", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))
"""MSRA's ResNets and the detectors made from them, as detectron2's model zoo has them."""

CAFFE2_RESNEXT = Pixels("BGR", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
"""detectron2's X-101-32x8d."""

IMAGENET = Pixels("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""torchvision: (x / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)."""

HALF = Pixels("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
"""TensorFlow's EfficientNet-Lite: (x / 255 - 0.5) / 0.5."""

BY_FILE = [
    (r"X-101-32x8d|faster_rcnn_X_101|retinanet_X_101", CAFFE2_RESNEXT),
    (r"^detectron2://ImageNetPretrained/(MSRA|FAIR)/|^detectron2://COCO-Detection/", CAFFE),
    (r"^detectron2://ImageNetPretrained/torchvision/", IMAGENET),
    (r"efficientnet-lite\d-[0-9a-f]{8}\.pth$", HALF),
    (
        r"[a-z0-9_]+-[0-9a-f]{8}\.pth$",
        IMAGENET,
    ),  # torchvision's names: resnet50-0676ba61.pth, retinanet_resnet50_fpn_coco-eeacb38b.pth
]
"""Weights by their address; the first that fits counts."""


def pixels_of_weights(cfg: CfgNode) -> Pixels | None:
    """What MODEL.WEIGHTS were trained with, or None if that is not known.

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
        return Pixels("RGB", *(tuple(255 * x for x in values) for values in (trained.mean, trained.std)))
    return None


def resolve_pixels(cfg: CfgNode) -> None:
    """Let INPUT.FORMAT, MODEL.PIXEL_MEAN and MODEL.PIXEL_STD follow MODEL.WEIGHTS, in place, and log it.

    They stay if MODEL.PIXELS_FROM is "config" or one of them is not as detectron2 has it; then a warning says
    how the weights differ.
    """
    wanted, now, default = pixels_of_weights(cfg), _configured(cfg), _configured(untouched())
    if cfg.MODEL.PIXELS_FROM != "weights" or wanted is None or now == wanted:
        return
    if now != default:
        text = f"{cfg.MODEL.WEIGHTS} expects {_say(wanted)}, but the config sets {_say(now)}, which is kept; set MODEL.PIXELS_FROM config to silence this"
        say_once(cfg, logger, logging.WARNING, text)
        return
    cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = wanted.format, list(wanted.mean), list(wanted.std)
    logger.info("pixels as %s expects them: %s", cfg.MODEL.WEIGHTS, _say(wanted))


def _configured(cfg: CfgNode) -> Pixels:
    return Pixels(cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD))


def _say(pixels: Pixels) -> str:
    return f"{pixels.format}, mean {', '.join(f'{x:g}' for x in pixels.mean)}, standard deviation {', '.join(f'{x:g}' for x in pixels.std)}"
