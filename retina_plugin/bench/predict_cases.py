"""Benchmarks of prediction: a folder of photographs, from files to detections."""

import atexit
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor

from retina_plugin.bench import model_cases
from retina_plugin.bench.measure import Implementation, Work
from retina_plugin.export.runtime import ExportedModel
from retina_plugin.export.writers import describe, write_openvino
from retina_plugin.inference.predictor import RetinaPredictor
from retina_plugin.inference.sources import find_sources
from retina_plugin.inference.stream import predict_stream

IMAGES, BROKEN = 12, 1
"""Photographs in the folder, and files that cannot be read."""

BATCH = 4
"""Images in the network at once, the default of ``retina predict``."""


@functools.cache
def photographs() -> Path:
    """Return a folder of JPEGs of 480 x 640 pixels, and files that are none."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    path = Path(folder.name)
    image = model_cases.photograph()
    for i in range(IMAGES):
        cv2.imwrite(str(path / f"{i}.jpg"), np.roll(image, 17 * i, axis=1), [cv2.IMWRITE_JPEG_QUALITY, 90])
    for i in range(BROKEN):
        (path / f"broken{i}.jpg").write_bytes(b"no image")
    return path


def detectron2_loop(device: torch.device) -> Work:
    """Return the loop that people write: ``cv2.imread``, then Detectron2's ``DefaultPredictor``."""
    predict = _with_weights(model_cases.cfg_detectron2, device, DefaultPredictor)
    files = sorted(photographs().iterdir())

    def work() -> list:
        """Predict on every file that can be read."""
        images = (cv2.imread(str(file)) for file in files)
        return [predict(image) for image in images if image is not None]

    return work


def stream(device: torch.device) -> Work:
    """Return what ``retina predict`` does, with the checkpoint."""
    return _over_folder(_with_weights(model_cases.cfg_plugin(), device, RetinaPredictor))


def exported(precision: str) -> Implementation:
    """Return an implementation: what ``retina predict`` does, with a file of OpenVINO."""

    def prepare(device: torch.device) -> Work:
        """Export the detector, calibrated on the same photographs."""
        exact = _with_weights(model_cases.cfg_plugin(*model_cases.FP32_OPTS), torch.device("cpu"), RetinaPredictor)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.xml"
            images = sorted(map(str, photographs().glob("[0-9]*.jpg")))
            metadata = describe(exact, precision=precision, thresholds=None)
            write_openvino(exact, file, metadata, images=images, precision=precision)
            return _over_folder(ExportedModel(file))

    return prepare


def _over_folder(predictor: Any) -> Work:
    """Return the prediction on the folder, from files to detections."""
    return lambda: list(predict_stream(predictor, find_sources([photographs()]), batch_size=BATCH))


def _with_weights(cfg_of: Callable[[str], CfgNode], device: torch.device, kind: Callable[[CfgNode], Any]) -> Any:
    """Return a predictor with the random weights that all implementations share."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pth"
        torch.save({"model": model_cases.random_weights(device.type)}, file)
        cfg = cfg_of(device.type).clone()
        cfg.defrost()
        cfg.MODEL.WEIGHTS = str(file)
        return kind(cfg)
