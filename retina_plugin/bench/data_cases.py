"""Benchmarks around the model: the mapper, COCO evaluation and the start on a large dataset."""

import atexit
import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from retina_plugin.bench.dataset_start import generated_coco
from retina_plugin.bench.measure import Implementation, Work
from retina_plugin.bench.model_cases import K, photograph
from retina_plugin.data.mapper import CvResizeShortestEdge, RetinaMapper

BOXES_PER_IMAGE = 7
"""About COCO's mean."""


def _temporary_folder() -> Path:
    """Return a new folder that is removed when the process ends."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Path(folder.name)


def detectron2_mapper() -> DatasetMapper:
    """Build Detectron2's mapper with its own resizing."""
    augmentations = [T.ResizeShortestEdge(800, 1333), T.RandomFlip()]
    return DatasetMapper(is_train=True, augmentations=augmentations, image_format="BGR")


def plugin_mapper() -> RetinaMapper:
    """Build the plugin's mapper with OpenCV's resizing."""
    augmentations = [CvResizeShortestEdge(800, 1333), T.RandomFlip()]
    return RetinaMapper(augmentations=augmentations, image_format="BGR", is_train=True)


def mapper(make: Callable[[], Callable[[dict], Any]]) -> Implementation:
    """Return an implementation: reading and augmenting one image with seven boxes."""

    def prepare(device: torch.device) -> Work:
        """Write the image, and build the mapper and the record."""
        file = _temporary_folder() / "photo.jpg"
        cv2.imwrite(str(file), photograph(), [cv2.IMWRITE_JPEG_QUALITY, 90])
        box = {"bbox": [10.0, 20.0, 200.0, 150.0], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "iscrowd": 0}
        image = {"file_name": str(file), "height": 480, "width": 640, "image_id": 1}
        record = {**image, "annotations": [dict(box) for _ in range(BOXES_PER_IMAGE)]}
        map_record = make()
        return lambda: map_record(record)

    return prepare


def evaluation_data(num_images: int = 5000, detections_per_image: int = 100) -> tuple[dict, np.ndarray]:
    """Generate ground truth of the size of COCO's val (7 boxes per image, 80 classes), and detections.

    About half of the detections are near a box.

    Returns:
        A dict in COCO's format; and rows (D, 7) of image id, x, y, width, height, score, category id.
    """
    rng = np.random.default_rng(0)
    images = [{"id": i + 1, "width": 640, "height": 480, "file_name": f"{i}.jpg"} for i in range(num_images)]
    categories = [{"id": k + 1, "name": str(k)} for k in range(K)]
    size = np.exp(rng.uniform(np.log(8), np.log(300), (num_images, BOXES_PER_IMAGE, 2)))
    corner = rng.uniform(0, 1, (num_images, BOXES_PER_IMAGE, 2)) * (np.array([640, 480]) - size.clip(max=400))
    boxes = np.concatenate([corner, size], axis=2)
    classes = rng.integers(1, K + 1, (num_images, BOXES_PER_IMAGE))
    annotations = [
        {
            "id": i * BOXES_PER_IMAGE + j + 1,
            "image_id": i + 1,
            "category_id": int(classes[i, j]),
            "bbox": boxes[i, j].tolist(),
            "area": float(size[i, j].prod()),
            "iscrowd": 0,
        }
        for i in range(num_images)
        for j in range(BOXES_PER_IMAGE)
    ]
    shape = (num_images, detections_per_image)
    chosen = rng.integers(0, BOXES_PER_IMAGE, shape)
    near = rng.random(shape) < 0.5
    rows = np.empty((*shape, 7))
    rows[..., 0] = np.arange(1, num_images + 1)[:, None]
    rows[..., 1:5] = np.take_along_axis(boxes, chosen[..., None], axis=1) + rng.normal(0, 3, (*shape, 4))
    rows[..., 3:5] = rows[..., 3:5].clip(min=2)
    rows[~near, 1:3] = rng.uniform(0, 300, (int((~near).sum()), 2))
    rows[..., 5] = rng.random(shape)
    rows[..., 6] = np.where(near, np.take_along_axis(classes, chosen, axis=1), rng.integers(1, K + 1, near.shape))
    return {"images": images, "categories": categories, "annotations": annotations}, rows.reshape(-1, 7)


def _coco_classes(engine: str) -> tuple[Any, Any]:
    """Return the classes ``COCO`` and ``COCOeval`` of hotcoco or pycocotools."""
    if engine == "hotcoco":
        import hotcoco

        return hotcoco.COCO, hotcoco.COCOeval
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def evaluation(engine: str) -> Implementation:
    """Return the COCO evaluation by an engine, "hotcoco" or "pycocotools", including loading."""

    def prepare(device: torch.device) -> Work:
        """Generate the detections, and write the ground truth."""
        coco_class, coco_eval_class = _coco_classes(engine)
        truth, rows = evaluation_data()
        file = _temporary_folder() / "truth.json"
        file.write_text(json.dumps(truth), encoding="utf-8")

        def work() -> None:
            """Load and evaluate."""
            with contextlib.redirect_stdout(io.StringIO()):
                ground_truth = coco_class(str(file))
                coco_eval = coco_eval_class(ground_truth, ground_truth.loadRes(rows.copy()), "bbox")
                coco_eval.evaluate()
                coco_eval.accumulate()
                coco_eval.summarize()

        return work

    return prepare


def dataset_start(read: Callable[[Path], list[dict]], *, corners: int = 0) -> Implementation:
    """Return the reading of a generated dataset.

    Args:
        read: returns the records of the dataset in a folder.
        corners: corners of each box's polygon; 0 for no polygons.
    """

    def prepare(device: torch.device) -> Work:
        """Generate the dataset."""
        folder = generated_coco(corners=corners)
        return lambda: read(folder)

    return prepare
