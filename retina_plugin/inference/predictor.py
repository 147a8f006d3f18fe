"""Prediction from a checkpoint alone."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Instances

from retina_plugin.config import INFO_KEY, config_from_text
from retina_plugin.config.files import settings_of
from retina_plugin.data.image_files import read_header
from retina_plugin.data.image_views import VIEWS, ViewMapper, Views
from retina_plugin.data.mapper import build_augmentations, build_mapper, contiguous
from retina_plugin.data.pixels import value_range_of
from retina_plugin.engine.builders import with_views
from retina_plugin.engine.checkpoint import RetinaCheckpointer, class_names, read_info
from retina_plugin.engine.device import check_device
from retina_plugin.inference.image import as_image
from retina_plugin.inference.sources import find_sources
from retina_plugin.inference.stream import Found, predict_stream
from retina_plugin.modeling.meta_arch import RetinaPluginNet

logger = logging.getLogger(__name__)

FALLBACK_SCORE = 0.5
"""Score threshold of a checkpoint that was never evaluated."""

Picture = np.ndarray | Image.Image | str | os.PathLike
"""Accepted as an image, see :func:`retina_plugin.inference.image.as_image`."""


class RetinaPredictor(DefaultPredictor):
    """Detectron2's ``DefaultPredictor`` with checked images and weights, tiles, test-time augmentation and thresholds.

    Anything that is not clearly an image is refused, and so are weights that leave parts of the model untrained.
    Images are read and resized as in evaluation (INPUT.READER), and looked at in the views of TEST.TILES and TEST.AUG.

    Args:
        cfg: from :func:`retina_plugin.load_config`; MODEL.WEIGHTS names a complete detector.
        thresholds: minimum score of each class; None: MODEL.RETINANET.SCORE_THRESH_TEST for all.
        channels: order of the channels of arrays, "BGR" or "RGB".

    Attributes:
        class_names: K names; ``pred_classes`` are indices into them.
        info: what the checkpoint says about itself, see :func:`retina_plugin.engine.checkpoint.describe_model`; empty
            for weights of another origin.
    """

    def __init__(self, cfg: CfgNode, *, thresholds: Sequence[float] | None = None, channels: str = "BGR") -> None:
        # Detectron2's constructor would load the weights with its own checkpointer, which leaves missing ones random.
        if channels not in ("BGR", "RGB"):
            raise ValueError(f"channels must be BGR or RGB, got {channels!r}")
        self.cfg = cfg.clone()
        check_device(cfg.MODEL.DEVICE)
        self.model = build_model(self.cfg).eval()
        if cfg.DATASETS.TEST:
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        loaded = RetinaCheckpointer(self.model, cfg=cfg).load(cfg.MODEL.WEIGHTS, checkpointables=[], complete=True)
        self.info: dict = loaded.get(INFO_KEY) or {}
        self.class_names = list(self.info.get("class_names") or class_names(cfg))
        (self.aug,) = build_augmentations(cfg, is_train=False)
        self.input_format, self.channels = cfg.INPUT.FORMAT, channels
        self.thresholds = None if thresholds is None else torch.tensor(list(thresholds), dtype=torch.float32)
        views = Views.from_config(cfg)
        self._view_mapper = ViewMapper.from_config(cfg, views) if views else None
        self.has_views = views is not None
        self._mapper = self._view_mapper or build_mapper(cfg, is_train=False)
        self.max_pixels = cfg.INPUT.MAX_IMAGE_PIXELS
        most = None if cfg.TEST.TILES.SIZE else cfg.TEST.DETECTIONS_PER_IMAGE  # an image of many tiles has more objects
        self.detector = with_views(cfg, self.model, max_detections=most).eval()

    def __call__(self, image: Picture | list[Picture] | tuple[Picture, ...]) -> dict | list[dict]:
        """Detect objects in an image, in each image of a list, or in each image of a folder.

        Args:
            image: an array (H, W, 3) uint8 with the channels in the order of ``channels``, or anything else that
                :func:`retina_plugin.inference.image.as_image` accepts; a list of images; or the path of a folder.

        Returns:
            {"instances": Instances} with ``pred_boxes`` (D, 4), ``scores`` (D,), ``pred_classes`` (D,); for a list of
            images or a folder a list of them, for a folder with "file_name" in each. Images of a folder that cannot be
            read are logged and left out.

        Raises:
            TypeError: it is not an image.
            ValueError: it is ambiguous, empty, or has no pixels left when resized.
            FileNotFoundError: the image file does not exist, or the folder has no images.
        """
        if isinstance(image, list | tuple):
            if any(isinstance(x, int | float | list | tuple) for x in image):
                raise TypeError(
                    "expected a list of images, got a list of numbers or lists; "
                    "convert it to an array of shape (H, W, 3) and uint8 first"
                )
            return [self._detect(x) for x in image]
        if isinstance(image, str | os.PathLike) and Path(image).is_dir():
            return self._detect_in_folder(Path(image))
        return self._detect(image)

    def names(self, instances: Instances) -> list[str]:
        """Return the class name of each detection."""
        return [self.class_names[k] for k in instances.pred_classes.tolist()]

    def map_array(self, image: np.ndarray, name: str) -> dict:
        """Return an image (H, W, 3) uint8, BGR, as input of the network, with "height" and "width".

        Args:
            image: the image.
            name: for messages.

        Raises:
            ValueError: a side of the resized image would have no pixels.
        """
        height, width = image.shape[:2]
        pixels = image[:, :, ::-1] if self.input_format == "RGB" else image
        record = {"height": height, "width": width}
        if self._view_mapper:
            views = self._view_mapper.split(pixels, name)
            return {**record, VIEWS: views, "image": views[0]["image"]}
        shorter, longest = self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
        scale = min(shorter / min(height, width), longest / max(height, width)) if shorter else 1.0
        if int(min(height, width) * scale + 0.5) < 1:
            raise ValueError(
                f"an image of {height} x {width} (height x width) would have no pixels left at "
                f"INPUT.MAX_SIZE_TEST {longest}: cut it into tiles (TEST.TILES.SIZE)"
            )
        resized = self.aug.get_transform(pixels).apply_image(pixels)
        return {**record, "image": torch.as_tensor(contiguous(resized)).permute(2, 0, 1)}

    def map_file(self, file: str) -> dict:
        """Return an image file, read as in evaluation, as input of the network, with "height" and "width".

        Raises:
            ImageError: the file cannot be used.
        """
        header = read_header(file, max_pixels=self.max_pixels)
        return self._mapper({"file_name": file, "height": header.height, "width": header.width})

    def run(self, records: list[dict], passed: Callable[[str], None] = lambda part: None) -> list[Found]:
        """Detect objects in a batch of images from :meth:`map_array` or :meth:`map_file`, see :meth:`instances_of`."""
        return [
            Found(x.pred_boxes.tensor.float().numpy(), x.scores.float().numpy(), x.pred_classes.numpy())
            for x in self.instances_of(records, passed)
        ]

    @torch.no_grad()
    def instances_of(self, records: list[dict], passed: Callable[[str], None] = lambda part: None) -> list[Instances]:
        """Detect objects in a batch of images.

        Args:
            records: as :meth:`map_array` and :meth:`map_file` return them.
            passed: called with "network" when the network is done.

        Returns:
            Detections of each image from its thresholds on, on the CPU.
        """
        model = self.detector
        if isinstance(model, RetinaPluginNet):
            images = model.preprocess_image(records)
            predictions = model.predict(images)
            if model.device.type == "cuda":
                torch.cuda.synchronize(model.device)
            passed("network")
            outputs = model.inference(*predictions, images, records)
        else:
            outputs = model(records)
            passed("network")
        return [self._above_thresholds(output["instances"].to("cpu")) for output in outputs]

    def _above_thresholds(self, instances: Instances) -> Instances:
        """Return the detections whose score reaches the threshold of their class."""
        if self.thresholds is None:
            return instances
        return instances[instances.scores.float() >= self.thresholds[instances.pred_classes]]

    def _detect(self, image: Picture) -> dict:
        """Detect objects in one image."""
        if isinstance(image, str | os.PathLike):
            record = self._map_file(Path(image))
        else:
            pixels = as_image(image, value_range=value_range_of(self.cfg), max_pixels=self.cfg.INPUT.MAX_IMAGE_PIXELS)
            if self.channels == "RGB" and isinstance(image, np.ndarray):
                pixels = np.ascontiguousarray(pixels[:, :, ::-1])
            record = self.map_array(pixels, "the image")
        return {"instances": self.instances_of([record])[0]}

    def _map_file(self, file: Path) -> dict:
        """Return the record of an image file, read as in evaluation."""
        if not file.is_file():
            raise FileNotFoundError(f"image file {file} does not exist")
        try:
            return self.map_file(str(file))
        except (OSError, ValueError, cv2.error) as error:
            raise ValueError(f"{file} cannot be read as an image: {error}") from error

    def _detect_in_folder(self, folder: Path) -> list[dict]:
        """Detect objects in each image of a folder."""
        results = []
        for found in predict_stream(self, find_sources([folder])):
            if found.instances is None:
                logger.warning("%s %s; it is left out", found.name, found.error)
            else:
                results.append({"file_name": found.name, "instances": found.instances})
        return results


def load_predictor(
    checkpoint: str | os.PathLike,
    *,
    score_thresh: float | str | None = None,
    device: str | None = None,
    imports: bool = False,
    channels: str = "BGR",
    settings: Sequence[Any] = (),
) -> RetinaPredictor:
    """Build a predictor with the config and the class names stored in a checkpoint.

    Images are resized as in training (INPUT.READER). A checkpoint of an fp16 run also predicts on a CPU.

    Args:
        checkpoint: path of a ``.pth`` file written by the plugin.
        score_thresh: minimum score of a detection, 0..1; "best": the thresholds with the best F1 in the last
            evaluation, one per class, which the checkpoint holds; None keeps MODEL.RETINANET.SCORE_THRESH_TEST.
        device: "cpu", "cuda", "cuda:1", ...; None uses a GPU if there is one.
        imports: import the modules that its config lists under IMPORTS, which runs code that the checkpoint names.
        channels: order of the channels of arrays: "BGR", as ``cv2.imread`` returns them, or "RGB". Files and Pillow
            images need no order.
        settings: keys and values in turn, such as ["TEST.TILES.SIZE", 640].

    Returns:
        A predictor; ``predictor(image)["instances"]`` has ``pred_boxes`` (D, 4) XYXY in pixels of the image, ``scores``
        (D,) and ``pred_classes`` (D,), which are indices into ``predictor.class_names``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a checkpoint of the plugin, is damaged, or holds more than data; the device does not
            exist; or the model was trained with a module of IMPORTS that is not imported.
        ImportError: such a module cannot be imported.
    """
    checkpoint = os.fspath(checkpoint)
    info = read_info(checkpoint)
    known = settings_of(info["config"], checkpoint)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    opts: list[Any] = ["MODEL.WEIGHTS", checkpoint, "MODEL.DEVICE", device]
    thresholds = best_thresholds(info, checkpoint) if score_thresh == "best" else None
    if thresholds is not None:
        score_thresh = max(0.0, min(thresholds) - 1e-6)  # a detector keeps what is above it
    if score_thresh is not None:
        opts += ["MODEL.RETINANET.SCORE_THRESH_TEST", float(score_thresh)]
    dataset = _dataset_with_names(known["DATASETS.TEST"].value, info["class_names"])
    opts += ["DATASETS.TEST", (dataset,), "DATASETS.TRAIN", ()]
    if not device.startswith("cuda") and known["SOLVER.AMP.PRECISION"].value == "fp16":
        opts += ["SOLVER.AMP.PRECISION", "auto"]
    cfg = config_from_text(info["config"], [*opts, *settings], source=checkpoint, imports=imports)
    return RetinaPredictor(cfg, thresholds=thresholds, channels=channels)


def best_thresholds(info: dict, checkpoint: str) -> list[float]:
    """Return the score threshold of each class; ``FALLBACK_SCORE`` for all, with a warning, if none are known.

    Args:
        info: what the checkpoint says about itself.
        checkpoint: its path, for the warning.
    """
    found, names = info.get("thresholds"), info["class_names"]
    if not found:
        logger.warning(
            "%s holds no score thresholds (an evaluation during training finds them): %s is used for all classes",
            checkpoint,
            FALLBACK_SCORE,
        )
        return [FALLBACK_SCORE] * len(names)
    return [float(found["classes"].get(name, found["all"])) for name in names]


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
