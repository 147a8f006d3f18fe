"""From a checkpoint, and nothing else, to predictions."""

import logging
import os
from collections.abc import Sequence

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
from retina_plugin.engine.trainer import check_device
from retina_plugin.inference.image import as_image

logger = logging.getLogger(__name__)

Picture = np.ndarray | Image.Image | str | os.PathLike
"""What is taken for an image, see :func:`retina_plugin.inference.image.as_image`."""


class RetinaPredictor(DefaultPredictor):
    """Detectron2's ``DefaultPredictor`` that says what an image is, and refuses weights that leave parts of the model untrained.

    Args:
        cfg: from :func:`retina_plugin.load_config`; MODEL.WEIGHTS names a whole detector. Images are resized as INPUT.READER says.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # Detectron2's constructor would load with its own checkpointer, which leaves what is missing random.
        self.cfg = cfg.clone()
        check_device(cfg.MODEL.DEVICE)
        self.model = build_model(self.cfg).eval()
        if cfg.DATASETS.TEST:
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        RetinaCheckpointer(self.model, cfg=cfg).load(cfg.MODEL.WEIGHTS, checkpointables=[], complete=True)
        (self.aug,) = build_augmentations(cfg, is_train=False)
        self.input_format = cfg.INPUT.FORMAT

    def __call__(self, image: Picture | list[Picture] | tuple[Picture, ...]) -> dict | list[dict]:
        """Detections of an image: {"instances": Instances} with ``pred_boxes``, ``scores``, ``pred_classes``; of a list of images a list of them.

        Raises:
            TypeError, ValueError, FileNotFoundError: it is no image; see :func:`retina_plugin.inference.image.as_image`.
        """
        if isinstance(image, list | tuple):
            if any(isinstance(x, int | float | list | tuple) for x in image):
                raise TypeError(
                    "a list is taken for a list of images, and this one holds numbers; make an array of it first, of shape (H, W, 3) and uint8"
                )
            return [self(x) for x in image]
        image = as_image(image, value_range=value_range_of(self.cfg), max_pixels=self.cfg.INPUT.MAX_IMAGE_PIXELS)
        height, width = image.shape[:2]
        shorter, longest = self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
        scale = min(shorter / min(height, width), longest / max(height, width)) if shorter else 1.0
        if int(min(height, width) * scale + 0.5) < 1:
            raise ValueError(
                f"an image of {height} x {width} (height x width) would have no pixels left at INPUT.MAX_SIZE_TEST {longest}: cut it in pieces"
            )
        return super().__call__(image)


def load_predictor(
    checkpoint: str | os.PathLike,
    *,
    score_thresh: float | None = None,
    device: str | None = None,
    imports: bool = False,
) -> RetinaPredictor:
    """Detectron2's ``DefaultPredictor`` with the config and the class names that the checkpoint carries.

    Args:
        checkpoint: path of a ``.pth`` that the plugin wrote.
        score_thresh: least score of a detection, 0..1; None keeps MODEL.RETINANET.SCORE_THRESH_TEST.
        device: "cpu", "cuda", "cuda:1", ...; None takes a GPU if there is one.
        imports: import the modules that its config names under IMPORTS, which is running code that the checkpoint names.

    Images are resized as in training (INPUT.READER); a checkpoint of an fp16 run predicts on a CPU too.

    Returns:
        A predictor: ``predictor(image)["instances"]`` for an image (H, W, 3) uint8, BGR, has
        ``pred_boxes`` (D, 4), ``scores`` (D,), ``pred_classes`` (D,), indices into
        ``predictor.metadata.thing_classes``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of the plugin, is damaged, or holds more than data; there is no such device; or it was trained
            with a module of IMPORTS that is not imported.
        ImportError: such a module cannot be imported.
    """
    checkpoint = os.fspath(checkpoint)
    info = read_info(checkpoint)
    settings = settings_of(info["config"], checkpoint)
    opts = ["MODEL.WEIGHTS", checkpoint, "MODEL.DEVICE", device or ("cuda" if torch.cuda.is_available() else "cpu")]
    if score_thresh is not None:
        opts += ["MODEL.RETINANET.SCORE_THRESH_TEST", float(score_thresh)]
    opts += [
        "DATASETS.TEST",
        (_dataset_with_names(settings["DATASETS.TEST"].value, info["class_names"]),),
        "DATASETS.TRAIN",
        (),
    ]
    if not str(opts[3]).startswith("cuda") and settings["SOLVER.AMP.PRECISION"].value == "fp16":
        opts += ["SOLVER.AMP.PRECISION", "auto"]
    return RetinaPredictor(config_from_text(info["config"], opts, source=checkpoint, imports=imports))


def _dataset_with_names(test: Sequence[str], class_names: list[str]) -> str:
    """Name of an entry in the ``MetadataCatalog`` whose classes are those of the checkpoint: the first of DATASETS.TEST if it may be."""
    name = test[0] if test else "checkpoint"
    if MetadataCatalog.get(name).get("thing_classes", class_names) != class_names:
        logger.warning("the dataset %s has other classes here than the checkpoint's, which are used", name)
        name = f"{name} of the checkpoint with {', '.join(class_names)}"
    MetadataCatalog.get(name).set(thing_classes=class_names)
    return name
