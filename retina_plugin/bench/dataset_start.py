"""The start of a training on a large dataset: reading a COCO JSON of the size of train2017, and checking its images."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import cv2
import msgspec
import numpy as np

from retina_plugin.data import load
from retina_plugin.data.card import DatasetCard

NUM_IMAGES, NUM_BOXES, NUM_CLASSES = 118_287, 860_001, 80
"""Size of COCO's train2017, which has 117,266 images with objects and 1,021 without."""

PICTURES = 64
"""Number of different JPEG files; the images are hard links to them, opened and read like separate files."""

CORNERS = 12
"""Corners of each object's polygon, in datasets with polygons."""


def generated_coco(num_images: int = NUM_IMAGES, num_boxes: int = NUM_BOXES, *, corners: int = 0) -> Path:
    """Generate a folder with ``instances.json`` and ``images/``, unless it exists already.

    The process that generates it removes it when it ends.

    Args:
        num_images: number of images.
        num_boxes: number of boxes.
        corners: corners of each box's polygon; 0 for no polygons.

    Returns:
        Path of the folder.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"retina_bench_coco_{user}_{num_images}_{num_boxes}_{corners}"
    if not folder.exists():
        unfinished = Path(tempfile.mkdtemp())
        _write(unfinished, num_images, num_boxes, corners)
        unfinished.rename(folder)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def card_of(folder: Path) -> DatasetCard:
    """Return the card of the generated data, without registering it."""
    return DatasetCard(
        name="bench_coco",
        format="coco",
        classes=[f"class {k}" for k in range(NUM_CLASSES)],
        splits={"train": {"images": "images", "annotations": "instances.json"}},
        root=str(folder),
        licence="none",
        source="generated",
        file=folder / "card.yaml",
    )


def detectron2_reads(folder: Path) -> list[dict]:
    """Read the dataset with Detectron2's ``load_coco_json``, which does not check the images."""
    from detectron2.data.datasets.coco import load_coco_json

    return load_coco_json(str(folder / "instances.json"), str(folder / "images"), "retina_bench_coco")


def plugin_reads(folder: Path, *, look: bool) -> list[dict]:
    """Read the dataset with the plugin's :func:`~retina_plugin.data.load.load_split`, as in a fresh process.

    Args:
        folder: from :func:`generated_coco`.
        look: check every image file; none counts as checked before.
    """
    load._SEEN.clear()
    return load.load_split(card_of(folder), "train", look=look).records


def _write_pictures(folder: Path, rng: np.random.Generator) -> list[tuple[Path, int, int]]:
    """Write the JPEG files, and return their paths, heights and widths."""
    folder.mkdir()
    sizes = [(480, 640), (640, 480), (427, 640), (640, 427), (375, 500), (500, 375), (612, 612), (360, 640)]
    pictures = []
    for i in range(PICTURES):
        h, w = sizes[i % len(sizes)]
        noise = rng.integers(0, 256, (h // 3, w // 3, 3), dtype=np.uint8)
        image = cv2.resize(noise, (w, h), interpolation=cv2.INTER_CUBIC)
        pictures.append((folder / f"{i}.jpg", h, w))
        cv2.imwrite(str(folder / f"{i}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return pictures


def _write(folder: Path, num_images: int, num_boxes: int, corners: int) -> None:
    """Write the images and the annotations."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    pictures = _write_pictures(folder / "pictures", rng)
    images = []
    for i in range(num_images):
        picture, h, w = pictures[int(rng.integers(PICTURES))]
        name = f"{i + 1:012d}.jpg"
        try:
            os.link(picture, folder / "images" / name)
        except OSError:  # the file system has no hard links, or allows no more of this file
            shutil.copyfile(picture, folder / "images" / name)
        images.append(
            {
                "license": 3,
                "file_name": name,
                "coco_url": f"http://images.cocodataset.org/train2017/{name}",
                "height": h,
                "width": w,
                "date_captured": "2013-11-14 11:18:45",
                "flickr_url": "http://farm9.staticflickr.com/8186/8119368305_4e622c8349_z.jpg",
                "id": i + 1,
            }
        )
    owner = rng.integers(0, max(1, num_images - num_images // 116), num_boxes)
    sides = np.array([[image["width"], image["height"]] for image in images])[owner]
    shares = np.sort(rng.uniform(0, 1, (num_boxes, 2, 2)), axis=1)
    low, high = shares[:, 0] * (sides - 4), shares[:, 1] * (sides - 4) + 4
    boxes = np.concatenate([low, high - low], axis=1).round(2)
    classes = rng.integers(1, NUM_CLASSES + 1, num_boxes).tolist()
    rows = zip(owner.tolist(), classes, boxes.tolist(), _polygons(low, high, corners), strict=True)
    annotations = [
        {
            "segmentation": polygon,
            "area": round(box[2] * box[3], 3),
            "iscrowd": 0,
            "image_id": i + 1,
            "bbox": box,
            "category_id": category,
            "id": j,
        }
        for j, (i, category, box, polygon) in enumerate(rows, start=1)
    ]
    categories = [{"supercategory": "thing", "id": k + 1, "name": f"class {k}"} for k in range(NUM_CLASSES)]
    data = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_bytes(msgspec.json.encode(data))


def _polygons(low: np.ndarray, high: np.ndarray, corners: int) -> list[list[list[float]]]:
    """Return for each of N boxes, with corners (N, 2) and (N, 2), a list of one polygon on an ellipse inside it.

    With ``corners`` 0 the lists are empty.
    """
    if not corners:
        return [[] for _ in low]
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1) / 2 + 0.5  # (corners, 2) in 0..1
    points = (low[:, None] + unit * (high - low)[:, None]).round(2)  # (N, corners, 2)
    return points.reshape(len(low), 1, 2 * corners).tolist()
