"""The page of a dataset: what it looks like to the network."""

from collections.abc import Callable, Iterable

import cv2
import matplotlib.pyplot as plt
import numpy as np

from retina_plugin.analysis.coverage import GroundTruth, ground_truth
from retina_plugin.data.pixels import read_image
from retina_plugin.report.drawing import PALETTE, draw_boxes, fitting_scale, legend, sheet
from retina_plugin.report.figures import finish, integer_ticks, legend_beside, plain, say, style
from retina_plugin.report.page import Page

IMAGES_SHOWN = 12
PICTURE_WIDTH = 330
HEAT_CELLS = 32


def read_bgr(file: str) -> np.ndarray:
    """Read an image file as (h, w, 3) uint8, BGR."""
    return read_image(file, "BGR")


def statistics_page(
    name: str,
    classes: list[str],
    records: dict[str, list[dict]],
    *,
    shortest: int,
    longest: int,
    read: Callable[[str], np.ndarray] = read_bgr,
    account: str = "",
) -> Page:
    """Build a page of images with their boxes, and the distributions of classes, sizes, shapes, counts and positions.

    Args:
        name: name of the dataset.
        classes: K names.
        records: Detectron2's dataset dicts with boxes XYXY_ABS, by split.
        shortest: shorter side of the network input, INPUT.MIN_SIZE_TEST.
        longest: limit of its longer side, INPUT.MAX_SIZE_TEST.
        read: reads a file as (h, w, 3) uint8, BGR, as :func:`retina_plugin.data.pixels.build_reader` returns it; an
            image that it refuses is reported on the page.
        account: lines of :meth:`retina_plugin.data.account.Account.text`, shown first.
    """
    page = Page(
        f"Dataset {name}", f"sizes in pixels of the network input: shorter side {shortest}, longer at most {longest}"
    )
    truths = {split: ground_truth(found, shortest=shortest, longest=longest) for split, found in records.items()}
    for line in account.splitlines():
        page.text(line)
    page.heading("Images and boxes")
    rows = []
    for split, found in records.items():
        empty = sum(not x["annotations"] for x in found)
        rows.append((split, len(found), len(truths[split].boxes), empty, _per_image(truths[split])))
    page.table(["split", "images", "boxes", "images without boxes", "boxes per image: mean, maximum"], rows)
    page.heading("Classes")
    counts = {split: np.bincount(truth.classes, minlength=len(classes)) for split, truth in truths.items()}
    order = np.argsort(-sum(counts.values(), np.zeros(len(classes), dtype=int)), kind="stable")
    page.table(["class", *counts], [(classes[k], *(int(count[k]) for count in counts.values())) for k in order])
    page.heading("Boxes at network resolution")
    page.plot(
        _distributions(truths),
        "Size is the square root of the area. Grey lines: 16, 32 and 96 px; COCO calls boxes below 32 px small.",
    )
    page.heading("Positions of the boxes")
    for split, truth in truths.items():
        if len(truth.boxes):
            page.plot(_heat(truth, split))
    _examples(page, classes, records, read)
    return page


def _examples(
    page: Page, classes: list[str], records: dict[str, list[dict]], read: Callable[[str], np.ndarray]
) -> None:
    """Add pictures of some images of every split, with their boxes."""
    page.heading("Examples")
    shown = [
        (split, record)
        for split, found in records.items()
        for record in _spread_out(found, IMAGES_SHOWN // len(records) or 1)
    ]
    page.legend(_entries(classes, (x["category_id"] for _, record in shown for x in record["annotations"])))
    page.text("Labels that would hide a small box, or repeat in a crowd, are left out; the colour shows the class.")
    for split, record in shown:
        name = f"{split}: {record['image_id']}"
        try:
            drawn = _drawn(record, classes, read)
        except (OSError, ValueError) as error:
            page.text(f"{name} is not shown: {error}")
            continue
        page.picture(drawn, f"{name}, {record['width']}x{record['height']}, {len(record['annotations'])} boxes")


def _entries(classes: list[str], shown: Iterable[int]) -> list[tuple[str, np.ndarray]]:
    """Return the names and colours (3,) uint8, BGR, of the classes that occur, for a legend."""
    return [(classes[k], PALETTE[k % len(PALETTE)]) for k in sorted(set(shown))]


def _per_image(truth: GroundTruth) -> str:
    """Return the mean and the maximum number of boxes per image, as text."""
    counts = np.bincount(truth.image, minlength=len(truth.sizes))
    return f"{counts.mean():.1f}, {counts.max()}" if len(counts) else "none"


def _distributions(truths: dict[str, GroundTruth]) -> plt.Figure:
    """Draw the distributions of size, shape and boxes per image, a curve per split."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    found = {split: truth for split, truth in truths.items() if len(truth.boxes)}
    sides = {split: np.maximum(truth.boxes[:, 2:] - truth.boxes[:, :2], 1e-3) for split, truth in found.items()}
    counts = {split: np.bincount(truth.image, minlength=len(truth.sizes)) for split, truth in found.items()}
    sizes = {split: np.sqrt(of.prod(axis=1)) for split, of in sides.items()}
    for size in (16, 32, 96):
        left.axvline(size, color="0.75", linewidth=0.8, zorder=0)
    lines = _shares(left, sizes, _powers(sizes, 4, 512))
    aspects = {split: of[:, 1] / of[:, 0] for split, of in sides.items()}
    _shares(middle, aspects, _powers(aspects, 1 / 4, 4))
    most = max((int(count.max()) for count in counts.values()), default=0)
    _shares(right, counts, np.arange(0, most + 2, max(1, -(-(most + 1) // 40))) - 0.5)
    finish(left, title="size", x="√(width · height), px of the network input", y="boxes, %")
    finish(middle, title="shape", x="height / width", y="boxes, %")
    finish(right, title="boxes per image", x="boxes", y="images, %")
    for axes in (left, middle):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    integer_ticks(right)
    if not found:
        for axes in (left, middle, right):
            say(axes, "no boxes")
    legend_beside(figure, lines, list(found))
    return figure


def _powers(values: dict[str, np.ndarray], low: float, high: float) -> np.ndarray:
    """Return the edges (n,) of bins, four per power of two, that cover ``low``..``high`` and all values (m,)."""
    every = np.concatenate([*values.values(), [low, high]])
    return 2.0 ** np.arange(np.floor(np.log2(every.min())), np.ceil(np.log2(every.max())) + 0.25, 0.25)


def _shares(axes: plt.Axes, values: dict[str, np.ndarray], edges: np.ndarray) -> list:
    """Draw a step curve per split, in percent of its values (m,), over bins with edges (n,), and return the curves."""
    lines = []
    for i, of in enumerate(values.values()):
        shares = 100 * np.histogram(of, np.append(edges[:-1], max(edges[-1], of.max())))[0] / len(of)
        steps = np.concatenate([[0], np.repeat(shares, 2), [0]])
        lines += axes.plot(np.repeat(edges, 2), steps, linewidth=1.4, **style(i))
    axes.set_ylim(bottom=0)
    return lines


def _heat(truth: GroundTruth, split: str) -> plt.Figure:
    """Draw how many boxes per image cover each position."""
    heat = np.zeros((HEAT_CELLS, HEAT_CELLS))
    h, w = truth.sizes[truth.image].T
    x1, y1, x2, y2 = (truth.boxes / np.stack([w, h, w, h], axis=1) * HEAT_CELLS).T
    for a, b, c, d in zip(np.floor(x1), np.floor(y1), np.ceil(x2), np.ceil(y2), strict=True):
        heat[int(max(b, 0)) : int(d), int(max(a, 0)) : int(c)] += 1
    figure, axes = plt.subplots(figsize=(3.9, 3.2), layout="constrained")
    picture = axes.imshow(heat / len(truth.sizes), cmap="cividis", vmin=0, extent=(0, 100, 100, 0))
    figure.colorbar(picture, ax=axes, shrink=0.9).ax.tick_params(labelsize=8)
    finish(axes, title=f"{plain(split)}: boxes per image, by position", x="% of the width", y="% of the height")
    axes.grid(False)
    return figure


def _spread_out(records: list[dict], count: int) -> list[dict]:
    """Return at most ``count`` records, evenly spaced over the list."""
    places = np.linspace(0, len(records) - 1, min(count, len(records)))
    return [records[i] for i in sorted({round(x) for x in places})]


def _drawn(record: dict, classes: list[str], read: Callable[[str], np.ndarray]) -> np.ndarray:
    """Draw an image with its labelled boxes: (H, W, 3) uint8, BGR."""
    image = read(record["file_name"])
    found = record["annotations"]
    boxes = np.array([x["bbox"] for x in found], dtype=float).reshape(-1, 4)
    labels = [classes[x["category_id"]] + (" (crowd)" if x.get("iscrowd") else "") for x in found]
    scale = fitting_scale(image.shape[:2], boxes, width=PICTURE_WIDTH)
    return draw_boxes(np.ascontiguousarray(image), boxes, labels, [x["category_id"] for x in found], scale=scale)


def augmented_sheet(samples: list[dict], classes: list[str], *, image_format: str, columns: int = 4) -> np.ndarray:
    """Draw training samples as the network receives them, with their boxes.

    Args:
        samples: dicts of the training mapper: "image" (C, H, W), "instances", optionally "ignore_boxes".
        classes: K names.
        image_format: INPUT.FORMAT, "BGR" or "RGB".
        columns: pictures per row.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    drawn: list[np.ndarray] = []
    shown: set[int] = set()
    for sample in samples:
        image = np.ascontiguousarray(sample["image"].permute(1, 2, 0).numpy())
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image_format == "RGB" else image
        gt, ignored = sample["instances"], sample.get("ignore_boxes")
        labels, kinds = [classes[k] for k in gt.gt_classes.tolist()], gt.gt_classes.tolist()
        boxes = gt.gt_boxes.tensor.numpy()
        shown.update(kinds)
        if ignored is not None:
            boxes = np.concatenate([boxes, ignored.numpy()])
            labels += ["ignored"] * len(ignored)
            kinds = kinds + [len(classes)] * len(ignored)  # not a class, so not in the legend
        drawn.append(draw_boxes(image, boxes, labels, kinds, dashed=[len(classes)]))
    pictures = sheet(drawn, columns=columns)
    return np.vstack([pictures, legend(_entries(classes, shown), pictures.shape[1])])
