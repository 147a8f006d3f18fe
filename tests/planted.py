"""A dataset with detections whose errors are known because they were planted."""

from pathlib import Path

import numpy as np

from retina_plugin.analysis.detections import Detections
from retina_plugin.evaluation.ground_truth import GroundTruth

NAMES = ["cat", "dog", "emu"]
SIDE = 20.0


def planted(kinds, *, right=30):
    """Return detections of objects on a grid, one image per object.

    Args:
        kinds: kind of TIDE's errors -> how many to plant, one per image.
        right: images whose only detection is right.
    """
    images, annotations, rows = [], [], []

    def add(boxes, found):
        """One image with (x, y, width, label) objects and (x, y, width, label, score) detections."""
        number = len(images) + 1
        images.append({"id": number, "file_name": f"{number}.png", "height": 200, "width": 200})
        for x, y, width, label in boxes:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "iscrowd": 0,
                 "bbox": [x, y, width, SIDE], "area": width * SIDE}
            )  # fmt: skip
        rows.extend([number, x, y, width, SIDE, score, label] for x, y, width, label, score in found)

    for i in range(right):
        add([(50, 50, SIDE, i % 3)], [(50, 50, SIDE, i % 3, 0.9)])
    for kind, count in kinds.items():
        for i in range(count):
            label, other, score = i % 3, (i + 1) % 3, 0.95 - 0.001 * i
            box, good = (50, 50, SIDE, label), (50, 50, SIDE, label, 0.9)
            if kind == "Cls":
                add([box], [(50, 50, SIDE, other, score)])
            elif kind == "Loc":
                add([box], [(50 + SIDE * 0.5, 50, SIDE, label, score)])  # IoU 1/3
            elif kind == "Both":
                add([box], [(50 + SIDE * 0.5, 50, SIDE, other, score)])
            elif kind == "Dupe":
                add([box], [good, (51, 50, SIDE, label, 0.85)])
            elif kind == "Bkg":
                add([box], [good, (150, 150, SIDE, label, score)])
            else:  # Miss
                add([box], [])
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)]
    coco = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    numbers = {x["id"]: x["id"] for x in images}
    truth = GroundTruth(coco, numbers, dict(numbers), [1, 2, 3], True, NAMES)
    return Detections(
        "planted", truth, coco, np.array(rows, dtype=np.float64).reshape(-1, 7), 100, Path("planted.json")
    )


def random_detections(seed=0, num_images=60):
    """Objects and noisy detections of them: shifted, of wrong classes, doubled, missing, and inventions."""
    rng = np.random.default_rng(seed)
    images, annotations, rows = [], [], []
    for number in range(1, num_images + 1):
        images.append({"id": number, "file_name": f"{number}.png", "height": 300, "width": 300})
        for _ in range(rng.integers(0, 6)):
            x, y = rng.uniform(0, 240, 2)
            w, h = rng.uniform(12, 60, 2)
            label = int(rng.integers(0, 3))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "iscrowd": 0,
                 "bbox": [x, y, w, h], "area": w * h}
            )  # fmt: skip
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                dx, dy = rng.normal(0, 0.15, 2) * (w, h)
                found = label if rng.random() < 0.85 else int(rng.integers(0, 3))
                rows.append([number, x + dx, y + dy, w, h, round(float(rng.beta(4, 2)), 4), found])
        if rng.random() < 0.4:
            rows.append([number, *rng.uniform(0, 200, 2), 30, 30, round(float(rng.beta(2, 4)), 4), rng.integers(0, 3)])
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)]
    coco = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    numbers = {x["id"]: x["id"] for x in images}
    truth = GroundTruth(coco, numbers, dict(numbers), [1, 2, 3], True, NAMES)
    return Detections("random", truth, coco, np.array(rows, dtype=np.float64), 100, Path("random.json"))


def scene(images):
    """Detections of images, each a pair of (x, y, w, h, label[, crowd]) and (x, y, w, h, label, score), several."""
    annotations, rows = [], []
    for number, (objects, found) in enumerate(images, start=1):
        for x, y, w, h, label, *crowd in objects:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "bbox": [x, y, w, h],
                 "area": w * h, "iscrowd": int(bool(crowd))}
            )  # fmt: skip
        rows += [[number, x, y, w, h, score, label] for x, y, w, h, label, score in found]
    coco = {
        "info": {},
        "images": [{"id": i + 1, "file_name": f"{i}.png", "height": 400, "width": 400} for i in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)],
    }
    numbers = {i + 1: i + 1 for i in range(len(images))}
    truth = GroundTruth(coco, numbers, dict(numbers), [1, 2, 3], True, NAMES)
    rows = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return Detections("scene", truth, coco, rows, 100, Path("scene.json"))
