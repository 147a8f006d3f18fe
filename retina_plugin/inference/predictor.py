"""Prediction from a checkpoint alone."""

import logging
import os
from typing import Any

import numpy as np
import torch
from PIL import Image

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from retina_plugin.config import config_from_text
from retina_plugin.config.files import settings_of
from retina_plugin.data.mapper import build_augmentations
from retina_plugin.data.pixels import value_range_of
from retina_plugin.engine.checkpoint import RetinaCheckpointer, read_info
from retina_plugin.engine.device import check_device
from retina_plugin.inference.image import as_image

logger = logging.getLogger(__name__)

Picture = np.ndarray | Image.Image | str | os.PathLike
"""Accepted as an image, see :func:`retina_plugin.inference.image.as_image`."""


class RetinaPredictor(DefaultPredictor):
    """Detectron2's ``DefaultPredictor`` with checked images and weights.

    Anything that is not clearly an image is refused, and so are weights that leave parts of the model untrained.

    Args:
        cfg: from :func:`retina_plugin.load_config`; MODEL.WEIGHTS names a complete detector. Images are resized with
            INPUT.READER.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # Detectron2's constructor would load the weights with its own checkpointer, which leaves missing ones random.
        self.cfg = cfg.clone()
        check_device(cfg.MODEL.DEVICE)
        self.model = build_model(self.cfg).eval()
        if cfg.DATASETS.TEST:
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        RetinaCheckpointer(self.model, cfg=cfg).load(cfg.MODEL.WEIGHTS, checkpointables=[], complete=True)
        (self.aug,) = build_augmentations(cfg, is_train=False)
        self.input_format = cfg.INPUT.FORMAT

    def __call__(self, image: Picture | list[Picture] | tuple[Picture, ...]) -> dict | list[dict]:
        """Detect objects in an image, or in each image of a list.

        Args:
            image: an array (H, W, 3) uint8, BGR, or anything else that
                :func:`retina_plugin.inference.image.as_image` accepts; or a list of images.

        Returns:
            {"instances": Instances} with ``pred_boxes`` (D, 4), ``scores`` (D,), ``pred_classes`` (D,); for a list of
            images a list of them.

        Raises:
            TypeError: it is not an image.
            ValueError: it is ambiguous, empty, or has no pixels left when resized.
            FileNotFoundError: the image file does not exist.
        """
        if isinstance(image, list | tuple):
            if any(isinstance(x, int | float | list | tuple) for x in image):
                raise TypeError(
                    "expected a list of images, got a list of numbers or lists; "
                    "convert it to an array of shape (H, W, 3) and uint8 first"
                )
            return [self._detect(x) for x in image]
        return self._detect(image)

    def _detect(self, image: Picture) -> dict:
        """Detect objects in one image."""
        image = as_image(image, value_range=value_range_of(self.cfg), max_pixels=self.cfg.INPUT.MAX_IMAGE_PIXELS)
        height, width = image.shape[:2]
        shorter, longest = self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
        scale = min(shorter / min(height, width), longest / max(height, width)) if shorter else 1.0
        if int(min(height, width) * scale + 0.5) < 1:
            raise ValueError(
                f"an image of {height} x {width} (height x width) would have no pixels left at "
                f"INPUT.MAX_SIZE_TEST {longest}: cut it into tiles"
            )
        return super().__call__(image)


def load_predictor(
    checkpoint: str | os.PathLike,
    *,
    score_thresh: float | None = None,
    device: str | None = None,
    imports: bool = False,
) -> RetinaPredictor:
    """Build a predictor with the config and the class names stored in a checkpoint.

    Images are resized as in training (INPUT.READER). A checkpoint of an fp16 run also predicts on a CPU.

    Args:
        checkpoint: path of a ``.pth`` file written by the plugin.
        score_thresh: minimum score of a detection, 0..1; None keeps MODEL.RETINANET.SCORE_THRESH_TEST.
        device: "cpu", "cuda", "cuda:1", ...; None uses a GPU if there is one.
        imports: import the modules that its config lists under IMPORTS, which runs code that the checkpoint names.

    Returns:
        A predictor; ``predictor(image)["instances"]`` of an image (H, W, 3) uint8, BGR, has ``pred_boxes`` (D, 4),
        ``scores`` (D,) and ``pred_classes`` (D,), which are indices into ``predictor.metadata.thing_classes``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a checkpoint of the plugin, is damaged, or holds more than data; the device does not
            exist; or the model was trained with a module of IMPORTS that is not imported.
        ImportError: such a module cannot be imported.
    """
    checkpoint = os.fspath(checkpoint)
    info = read_info(checkpoint)
    settings = settings_of(info["config"], checkpoint)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    opts: list[Any] = ["MODEL.WEIGHTS", checkpoint, "MODEL.DEVICE", device]
    if score_thresh is not None:
        opts += ["MODEL.RETINANET.SCORE_THRESH_TEST", float(score_thresh)]
    dataset = _dataset_with_names(settings["DATASETS.TEST"].value, info["class_names"])
    opts += ["DATASETS.TEST", (dataset,), "DATASETS.TRAIN", ()]
    if not device.startswith("cuda") and settings["SOLVER.AMP.PRECISION"].value == "fp16":
        opts += ["SOLVER.AMP.PRECISION", "auto"]
    return RetinaPredictor(config_from_text(info["config"], opts, source=checkpoint, imports=imports))


def _dataset_with_names(test: Any, class_names: list[str]) -> str:
    """Return the name of an entry of ``MetadataCatalog`` that has the classes of the checkpoint.

    It is the first dataset of ``test``, the value of DATASETS.TEST, unless that is registered with different classes.
    """
    name = test[0] if test else "checkpoint"
    if MetadataCatalog.get(name).get("thing_classes", class_names) != class_names:
        logger.warning("dataset %s is registered with different classes than the checkpoint's, which are used", name)
        name = f"{name} of the checkpoint with {', '.join(class_names)}"
    MetadataCatalog.get(name).set(thing_classes=class_names)
    return name
