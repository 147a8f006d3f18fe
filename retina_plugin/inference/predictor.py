"""From a checkpoint, and nothing else, to predictions."""

import logging

import torch
import yaml

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor

from retina_plugin.config import config_from_text
from retina_plugin.data.mapper import build_augmentations
from retina_plugin.engine.checkpoint import read_info

logger = logging.getLogger(__name__)


def load_predictor(checkpoint: str, *, score_thresh: float | None = None, device: str | None = None) -> DefaultPredictor:
    """Detectron2's ``DefaultPredictor`` with the config and the class names that the checkpoint carries.

    Args:
        checkpoint: path of a ``.pth`` that the plugin wrote.
        score_thresh: least score of a detection, 0..1; None keeps MODEL.RETINANET.SCORE_THRESH_TEST.
        device: "cpu", "cuda", "cuda:1", ...; None takes a GPU if there is one.

    Images are resized as in training (INPUT.READER); a checkpoint of an fp16 run predicts on a CPU too.

    Returns:
        A predictor: ``predictor(image)["instances"]`` for an image (H, W, 3) uint8, BGR, has
        ``pred_boxes`` (D, 4), ``scores`` (D,), ``pred_classes`` (D,), indices into
        ``predictor.metadata.thing_classes``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of the plugin, or holds more than data.
    """
    info = read_info(checkpoint)
    opts = ["MODEL.WEIGHTS", str(checkpoint), "MODEL.DEVICE", device or ("cuda" if torch.cuda.is_available() else "cpu")]
    if score_thresh is not None:
        opts += ["MODEL.RETINANET.SCORE_THRESH_TEST", float(score_thresh)]
    opts += ["DATASETS.TEST", (_dataset_with_names(info["config"], info["class_names"]),), "DATASETS.TRAIN", ()]
    if not str(opts[3]).startswith("cuda") and CfgNode(yaml.safe_load(info["config"])).SOLVER.AMP.PRECISION == "fp16":
        opts += ["SOLVER.AMP.PRECISION", "auto"]
    cfg = config_from_text(info["config"], opts)
    predictor = DefaultPredictor(cfg)
    (predictor.aug,) = build_augmentations(cfg, is_train=False)
    return predictor


def _dataset_with_names(config: str, class_names: list[str]) -> str:
    """Name of an entry in the ``MetadataCatalog`` whose classes are those of the checkpoint."""
    test = CfgNode(yaml.safe_load(config)).DATASETS.TEST
    name = test[0] if test else "checkpoint"
    if MetadataCatalog.get(name).get("thing_classes", class_names) != class_names:
        logger.warning("the dataset %s has other classes here than the checkpoint's, which are used", name)
        name = f"{name} of the checkpoint with {', '.join(class_names)}"
    MetadataCatalog.get(name).set(thing_classes=class_names)
    return name
