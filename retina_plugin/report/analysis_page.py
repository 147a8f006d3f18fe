"""The page of an analysis: an overview, then what the detector gets right and wrong."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from retina_plugin.analysis.diagnosis import ERRORS, Diagnosis, ImageResult
from retina_plugin.evaluation.result_table import METRICS
from retina_plugin.report.drawing import draw_boxes, fitting_scale
from retina_plugin.report.figures import finish, legend_beside, plain, style
from retina_plugin.report.page import Page

RIGHT, WRONG, MISSED = 0, 1, 2
COLOURS = np.array([[136, 153, 0], [17, 51, 204], [230, 150, 0]], dtype=np.uint8)
"""Green: correct; red: wrong; blue and dashed: missed (BGR). Colour-blind people can distinguish these."""

EXAMPLES = 8
PICTURE_WIDTH = 480
MOST_CLASSES = 30
"""Classes in the confusion matrix; of more, those that are confused most often."""

MOST_CURVES = 8


def write_analysis(found: Diagnosis, file: str | os.PathLike, read: Callable[[str], np.ndarray]) -> Path:
    """Write a page.

    Args:
        found: the analysis.
        file: to write.
        read: reads an image file as (H, W, 3) uint8, BGR.
    """
    images, objects = len(found.images), sum(x.objects for x in found.classes)
    subtitle = f"{found.detections.source}: {images} images, {objects} objects of {len(found.classes)} classes"
    page = Page(f"Detections on {found.detections.dataset}", subtitle)
    add_overview(page, found)
    add_errors(page, found)
    add_classes(page, found)
    add_slices(page, found)
    add_worst_images(page, found, read)
    page.write(file)
    return Path(file)


def add_overview(page: Page, found: Diagnosis) -> None:
    """Add AP with its interval, the threshold, what costs most, and advice."""
    low, high = found.interval
    page.heading("Overview")
    for line in overview(found):
        page.text(line)
    names = [name for name in METRICS if name in found.metrics]
    page.table(names, [[percent(found.metrics[name]) for name in names]])
    for name, figures in found.others.items():
        means = [metric for metric in figures if not any(metric.endswith(f"-{x.name}") for x in found.classes)]
        page.text(f"{name.upper()}'s metrics:")
        page.table(means, [[percent(figures[metric]) for metric in means]])
    if not math.isnan(low):
        page.text(
            f"AP is between {low:.1f} and {high:.1f} with a confidence of 95 %: so much would it vary over other "
            "validation images of the same kind and number (bootstrap over images). It says nothing about other "
            "training runs."
        )


def overview(found: Diagnosis) -> list[str]:
    """Return the most important results as sentences."""
    low, high = found.interval
    between = "" if math.isnan(low) else f" ({low:.1f} to {high:.1f})"
    lines = [f"AP {percent(found.metrics['AP'])}{between}, AP50 {percent(found.metrics['AP50'])}."]
    best = found.overall
    if math.isnan(best.score):
        lines.append("No detection is right.")
    else:
        lines.append(
            f"With detections from a score of {best.score:.2f} on, {100 * best.precision:.0f} % of them are right and "
            f"{100 * best.recall:.0f} % of the objects are found (F1 {100 * best.f1:.0f} %, the best of all scores)."
        )
    kind, (count, cost) = max(found.errors.items(), key=lambda item: item[1][1])
    if cost >= 0.05:
        lines.append(f"What costs most: {ERRORS[kind]} ({count} detections or objects, {cost:.1f} AP50).")
    right = sum(x.wrong + x.missed == 0 for x in found.images)
    lines.append(f"{right} of {len(found.images)} images have no mistake at that score.")
    return [*lines, *found.advice]


def add_errors(page: Page, found: Diagnosis) -> None:
    """Add TIDE's errors, the confusion matrix and the calibration."""
    page.heading("Kinds of errors")
    page.text(
        "TIDE's kinds (Bolya et al. 2020): how often each occurs among all detections, and how much AP50 would rise if "
        "all of that kind were corrected."
    )
    rows = [(ERRORS[kind], count, f"{cost:.1f}") for kind, (count, cost) in found.errors.items()]
    page.table(["error", "number", "AP50 it costs"], sorted(rows, key=lambda row: -float(str(row[2]))))
    page.heading("Confusion")
    page.plot(
        _confusion(found),
        "Each row is an annotated class, each column what was detected in its place, at IoU 0.5 and the score with the "
        "best F1. Last column: missed; last row: detected where nothing is annotated.",
    )
    page.heading("Are the scores probabilities?")
    page.plot(
        _calibration(found),
        f"Detections by score, and the share of them that is right. On the diagonal a score is a probability; the mean "
        f"distance from it (expected calibration error) is {found.calibration['ece']:.2f}.",
    )


def _confusion(found: Diagnosis) -> plt.Figure:
    """Draw the confusion matrix; of many classes the ones with most confusions."""
    counts, names = found.confusion, [*found.detections.class_names, "background"]
    if len(names) > MOST_CLASSES + 1:
        wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
        chosen = np.sort(np.argsort(-wrong[:-1], kind="stable")[:MOST_CLASSES])
        kept = np.append(chosen, len(names) - 1)
        counts, names = counts[np.ix_(kept, kept)], [names[i] for i in kept]
    side = min(10.0, 2.4 + 0.45 * len(names))
    figure, axes = plt.subplots(figsize=(side + 1, side), layout="constrained")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    labels = [plain(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    for (i, j), count in np.ndenumerate(counts):
        if count:
            axes.text(
                j, i, f"{count}", ha="center", va="center", fontsize=7, color="white" if shares[i, j] > 0.6 else "black"
            )
    axes.set_xlabel("detected", fontsize=8)
    axes.set_ylabel("annotated", fontsize=8)
    return figure


def _calibration(found: Diagnosis) -> plt.Figure:
    """Draw the share of right detections over the score, and the number of detections."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    bins = [x for x in found.calibration["bins"] if x["count"]]
    left.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    left.plot([x["avg_confidence"] for x in bins], [x["avg_accuracy"] for x in bins], marker="o", **style(0))
    left.set(xlim=(0, 1), ylim=(0, 1))
    finish(left, title="share of right detections", x="score", y="right")
    edges = [x["bin_lower"] for x in bins]
    right.bar(edges, [x["count"] for x in bins], width=0.09, align="edge", color=style(0)["color"])
    right.set_yscale("log")
    finish(right, title="detections", x="score", y="number (logarithmic)")
    return figure


def add_classes(page: Page, found: Diagnosis) -> None:
    """Add a table and curves of the classes."""
    page.heading("Classes")
    page.text("Precision, recall and F1 at the score that is best for the class, IoU 0.5.")
    rows = []
    for x in found.classes:
        t = x.threshold
        best = (
            ["n/a"] * 4
            if math.isnan(t.score)
            else [f"{t.score:.2f}", *(f"{100 * v:.0f}" for v in (t.precision, t.recall, t.f1))]
        )
        rows.append([x.name, x.images, x.objects, percent(x.ap), percent(x.ap50), *best])
    page.table(["class", "images", "objects", "AP", "AP50", "score", "precision", "recall", "F1"], rows)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    worst = [f"class {x.name}" for x in found.classes if x.objects][: MOST_CURVES - 1]
    lines, names = [], []
    for i, key in enumerate(["all", *worst]):
        scores, precision, recall, f1 = found.curves[key]
        looks = {"color": "black", "linewidth": 2.2} if key == "all" else {"linewidth": 1.2, **style(i - 1)}
        lines += axes[0].plot(recall, precision, **looks)
        axes[1].plot(scores, f1, **looks)
        axes[2].plot(scores, recall, **looks)
        names.append("all classes" if key == "all" else key.removeprefix("class "))
    for ax in axes:
        ax.set(xlim=(0, 1), ylim=(0, 1.02))
    finish(axes[0], title="precision over recall", x="recall", y="precision")
    finish(axes[1], title="F1 over score", x="minimum score", y="F1")
    finish(axes[2], title="recall over score", x="minimum score", y="recall")
    legend_beside(figure, lines, names)
    shown = "" if len(worst) == len(found.classes) else f"; of the classes, the {len(worst)} with the lowest AP"
    page.plot(figure, f"At IoU 0.5{shown}.")


def add_slices(page: Page, found: Diagnosis) -> None:
    """Add AP and recall of parts of the data."""
    page.heading("Parts of the data")
    page.text("Recall is the share of the objects that are found from the score on that is best for all classes.")
    rows = [(x.by, x.name, x.images, percent(x.ap), percent(x.ap50), percent(100 * x.recall)) for x in found.slices]
    page.table(["property", "part", "number", "AP", "AP50", "recall"], rows)


def add_worst_images(page: Page, found: Diagnosis, read: Callable[[str], np.ndarray], examples: int = EXAMPLES) -> None:
    """Add pictures of the images with the most mistakes, and the list of their files."""
    page.heading("Images with the most mistakes")
    wrong = [x for x in found.images if x.wrong + x.missed]
    page.text(f"{len(wrong)} of {len(found.images)} images have mistakes.")
    page.legend(
        [
            ("correct", COLOURS[RIGHT]),
            ("wrong: class, position or duplicate", COLOURS[WRONG]),
            ("missed, dashed", COLOURS[MISSED]),
        ]
    )
    for x in wrong[:examples]:
        caption = f"{Path(x.file).name}: {x.wrong} wrong, {x.missed} missed, {x.right} correct"
        try:
            page.picture(draw_image(found, x, read(x.file)), caption)
        except (OSError, ValueError) as error:
            page.text(f"{caption}; not shown: {error}")
    page.table(["file", "wrong", "missed", "correct"], [(x.file, x.wrong, x.missed, x.right) for x in wrong[:50]])


def draw_image(found: Diagnosis, image: ImageResult, pixels: np.ndarray) -> np.ndarray:
    """Draw correct, wrong and missed boxes on an image (H, W, 3) uint8, BGR."""
    names, rows = found.detections.class_names, found.detections.rows
    mine = np.flatnonzero((rows[:, 0] == image.number) & (found.status >= 0))
    missed = [
        x
        for x, was in zip(found.detections.coco["annotations"], found.missed, strict=True)
        if was and x["image_id"] == image.number
    ]
    boxes = np.concatenate([rows[mine, 1:5], np.array([x["bbox"] for x in missed], dtype=float).reshape(-1, 4)])
    boxes[:, 2:] += boxes[:, :2]
    labels = [f"{names[int(rows[i, 6])]} {rows[i, 5]:.2f}" for i in mine]
    labels += [names[x["category_id"] - 1] for x in missed]
    kinds = [RIGHT if found.status[i] == 1 else WRONG for i in mine] + [MISSED] * len(missed)
    scale = fitting_scale(pixels.shape[:2], boxes, width=PICTURE_WIDTH)
    return draw_boxes(np.ascontiguousarray(pixels), boxes, labels, kinds, scale=scale, colours=COLOURS, dashed=[MISSED])


def percent(value: float) -> str:
    """Return one decimal; NaN means that there is nothing to compute it from."""
    return "n/a" if math.isnan(value) else f"{value:.1f}"
