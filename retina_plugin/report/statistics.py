"""What a dataset looks like to the network."""

import cv2
import matplotlib.pyplot as plt
import numpy as np

from retina_plugin.data.mapper import read_image
from retina_plugin.evaluation.coverage import ground_truth
from retina_plugin.report.drawing import draw_boxes, sheet
from retina_plugin.report.page import Page

IMAGES_SHOWN = 12
PICTURE_WIDTH = 330
HEAT_CELLS = 32


def statistics_page(name: str, classes: list[str], records: dict[str, list[dict]], *, shortest: int, longest: int) -> Page:
    """Images with their boxes, and the distributions of classes, sizes, shapes, counts and positions.

    Args:
        name: of the dataset.
        classes: K names.
        records: by split, Detectron2's dataset dicts with boxes XYXY_ABS.
        shortest, longest: sides of the network input, as INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.
    """
    page = Page(f"Dataset {name}", f"sizes in pixels of the network input: shorter side {shortest}, longer at most {longest}")
    truths = {split: ground_truth(found, shortest=shortest, longest=longest) for split, found in records.items()}
    page.heading("Images and boxes")
    rows = [(split, len(found), len(truths[split].boxes), sum(not x["annotations"] for x in found), _per_image(truths[split])) for split, found in records.items()]
    page.table(["split", "images", "boxes", "images without boxes", "boxes an image: mean, most"], rows)
    page.heading("Classes")
    counts = {split: np.bincount(truth.classes, minlength=len(classes)) for split, truth in truths.items()}
    order = np.argsort(-sum(counts.values()), kind="stable")
    page.table(["class", *counts], [(classes[k], *(int(count[k]) for count in counts.values())) for k in order])
    page.heading("Boxes at network resolution")
    page.plot(_distributions(truths), "Size is the square root of the area. Dotted: 16, 32 and 96 px; below 32 px COCO calls a box small.")
    page.heading("Where the boxes are")
    for split, truth in truths.items():
        if len(truth.boxes):
            page.plot(_heat(truth, split))
    page.heading("Examples")
    for split, found in records.items():
        for record in _spread_out(found, IMAGES_SHOWN // len(records) or 1):
            page.picture(_drawn(record, classes), f"{split}: {record['image_id']}, {record['width']}x{record['height']}, {len(record['annotations'])} boxes")
    return page


def _per_image(truth) -> str:
    counts = np.bincount(truth.image, minlength=len(truth.sizes))
    return f"{counts.mean():.1f}, {counts.max()}" if len(counts) else "none"


def _distributions(truths: dict) -> plt.Figure:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for split, truth in truths.items():
        if not len(truth.boxes):
            continue
        sides = np.maximum(truth.boxes[:, 2:] - truth.boxes[:, :2], 1e-3)
        per_image = np.bincount(truth.image, minlength=len(truth.sizes))
        left.hist(np.sqrt(sides.prod(axis=1)), bins=np.geomspace(2, 1024, 40), histtype="step", density=True, label=split)
        middle.hist(sides[:, 1] / sides[:, 0], bins=np.geomspace(1 / 8, 8, 40), histtype="step", density=True, label=split)
        right.hist(per_image, bins=np.arange(per_image.max() + 2) - 0.5, histtype="step", density=True, label=split)
    for axes, title, logarithmic in ((left, "size, px", True), (middle, "height / width", True), (right, "boxes an image", False)):
        axes.set_title(title, fontsize=10)
        axes.set_yticks([])
        axes.spines[["top", "right", "left"]].set_visible(False)
        if logarithmic:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
    for size in (16, 32, 96):
        left.axvline(size, linestyle=":", color="grey", linewidth=0.8)
    if left.get_legend_handles_labels()[0]:
        left.legend(fontsize=8, frameon=False)
    return figure


def _heat(truth, split: str) -> plt.Figure:
    """How often each place of an image lies in a box."""
    heat = np.zeros((HEAT_CELLS, HEAT_CELLS))
    h, w = truth.sizes[truth.image].T
    x1, y1, x2, y2 = (truth.boxes / np.stack([w, h, w, h], axis=1) * HEAT_CELLS).T
    for a, b, c, d in zip(np.floor(x1), np.floor(y1), np.ceil(x2), np.ceil(y2), strict=True):
        heat[int(max(b, 0)) : int(d), int(max(a, 0)) : int(c)] += 1
    figure, axes = plt.subplots(figsize=(3.4, 3), layout="constrained")
    axes.imshow(heat / len(truth.sizes), cmap="magma", vmin=0)
    axes.set_title(f"{split}: boxes that cover a place, per image; most {heat.max() / len(truth.sizes):.2f}", fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
    return figure


def _spread_out(records: list[dict], count: int) -> list[dict]:
    """Some of them, from all over the list."""
    return [records[i] for i in sorted({round(x) for x in np.linspace(0, len(records) - 1, min(count, len(records)))})] if records else []


def _drawn(record: dict, classes: list[str]) -> np.ndarray:
    image = read_image(record["file_name"], "BGR")
    found = record["annotations"]
    boxes = np.array([x["bbox"] for x in found], dtype=float).reshape(-1, 4)
    labels = [classes[x["category_id"]] + (" (crowd)" if x.get("iscrowd") else "") for x in found]
    return draw_boxes(np.ascontiguousarray(image), boxes, labels, [x["category_id"] for x in found], scale=PICTURE_WIDTH / image.shape[1])


def augmented_sheet(samples: list[dict], classes: list[str], *, image_format: str, columns: int = 4) -> np.ndarray:
    """Training samples as the network gets them, with their boxes.

    Args:
        samples: of the training mapper: "image" (C, H, W), "instances", perhaps "ignore_boxes".
        classes: K names.
        image_format: INPUT.FORMAT, "BGR" or "RGB".
        columns: pictures in a row.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    drawn = []
    for sample in samples:
        image = np.ascontiguousarray(sample["image"].permute(1, 2, 0).numpy())
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image_format == "RGB" else image
        gt, ignored = sample["instances"], sample.get("ignore_boxes")
        labels, kinds = [classes[k] for k in gt.gt_classes.tolist()], gt.gt_classes.tolist()
        boxes = gt.gt_boxes.tensor.numpy()
        if ignored is not None:
            boxes, labels, kinds = np.concatenate([boxes, ignored.numpy()]), labels + ["ignored"] * len(ignored), kinds + [len(classes)] * len(ignored)
        drawn.append(draw_boxes(image, boxes, labels, kinds))
    return sheet(drawn, columns=columns)
