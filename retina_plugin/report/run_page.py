"""The page of a run, from the files in its folder."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import yaml

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin.analysis.errors import ImageErrors, image_errors
from retina_plugin.config import add_retina_config, all_keys, get_key
from retina_plugin.data.pixels import build_reader
from retina_plugin.evaluation.hotcoco import PRECISION_RECALL
from retina_plugin.evaluation.result_table import METRICS
from retina_plugin.evaluation.thresholds import thresholds_in
from retina_plugin.paths import shipped
from retina_plugin.report.drawing import draw_boxes, fitting_scale
from retina_plugin.report.figures import finish, integer_ticks, legend_beside, log_numbers, plain, say, style
from retina_plugin.report.page import Page

METHOD = "configs/Base-RetinaNet.yaml"
EXAMPLES = 8
PICTURE_WIDTH = 480
FALLBACK_SCORE = 0.5
"""Score from which detections are shown if no threshold is known."""

RIGHT, WRONG, MISSED = 0, 1, 2
COLOURS = np.array([[136, 153, 0], [17, 51, 204], [230, 150, 0]], dtype=np.uint8)
"""Green: correct; red: wrong; blue and dashed: missed (BGR). Colour-blind people can distinguish these."""

MOST_CURVES = 8
"""Maximum number of coloured precision-recall curves; of more classes the best and the worst are coloured."""

REPORT = "report.html"

ACCOUNT = "dataset.txt"
"""File in the folder of a run on data found by --data: how its images, files and boxes were used."""


def write_run_report(folder: str | os.PathLike) -> Path:
    """Write ``report.html`` of a running or finished run: training curves, results and its worst mistakes.

    Args:
        folder: OUTPUT_DIR, with a ``config.yaml``; parts of the page whose files are missing are left out.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"{folder} holds no run: it has no config.yaml")
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    cfg = CfgNode(settings)
    lines = _json_lines(folder / "metrics.json")
    trained, evaluated = ", ".join(cfg.DATASETS.TRAIN), ", ".join(cfg.DATASETS.TEST) or "nothing"
    page = Page(f"Run {folder.name}", f"trained on {trained}, evaluated on {evaluated}; {_progress(cfg, lines)}")
    if (folder / ACCOUNT).is_file():
        page.heading("Data")
        for line in (folder / ACCOUNT).read_text(encoding="utf-8").splitlines():
            page.text(line)
    results = _load(folder / "results.json")
    if results.get("bbox"):
        _results(page, results["bbox"], "Result")
    if final := _load(folder / "final_test/results.json").get("bbox"):
        unused = ", ".join(cfg.DATASETS.FINAL_TEST)
        _results(page, final, f"Best weights on {unused}, which had no part in choosing them")
    _curves(page, lines)
    if curves := _load(folder / PRECISION_RECALL):
        page.heading("Precision and recall at IoU 0.5")
        page.plot(_precision_recall(curves), "Each point is a score threshold, lower towards the right.")
    thresholds = thresholds_in(results)
    _examples(page, cfg, folder, score=thresholds["all"] if thresholds else FALLBACK_SCORE)
    _cost(page, cfg, _load(folder / "summary.json"), lines)
    page.heading("Differences from the method")
    page.text("Config keys that differ from Base-RetinaNet.yaml, the paper's method with Detectron2's refinements:")
    page.table(["key", "method", "this run"], differences(settings))
    page.write(folder / REPORT)
    return folder / REPORT


def differences(settings: dict) -> list[tuple[str, object, object]]:
    """Return (key, value in Base-RetinaNet.yaml, value here) of the keys of a resolved config that differ from it."""
    base = get_cfg()
    add_retina_config(base)
    base.merge_from_other_cfg(CfgNode(CfgNode.load_yaml_with_base(str(shipped(METHOD)))))
    here = CfgNode(settings)
    known = set(all_keys(base))
    found = []
    for key in all_keys(here):
        old = _as_list(get_key(base, key)) if key in known else "-"
        new = _as_list(get_key(here, key))
        open_section = isinstance(old, CfgNode) and not old
        if old != new and not open_section:
            found.append((key, old, new))
    return found


def _as_list(value: object) -> object:
    """Return a tuple as a list, which YAML makes no difference between, and anything else unchanged."""
    return list(value) if isinstance(value, tuple) else value


def _load(file: Path) -> dict:
    """Return the content of a JSON file; empty if there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _json_lines(file: Path) -> list[dict]:
    """Return the lines of ``metrics.json`` by iteration; if a resumed run repeated one, its later values."""
    by_iteration: dict[int, dict] = defaultdict(dict)
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # a last line cut off when the run was killed
                continue
            if isinstance(values, dict):
                by_iteration[values.get("iteration", -1)].update(values)
    return [by_iteration[i] for i in sorted(by_iteration)]


def _progress(cfg: CfgNode, lines: list[dict]) -> str:
    """Return how many iterations are done, as text."""
    done = lines[-1]["iteration"] + 1 if lines else 0
    return f"iteration {done} of {cfg.SOLVER.MAX_ITER}"


def _results(page: Page, box: dict, title: str) -> None:
    """Add COCO's metrics, and the AP of the classes from low to high."""
    page.heading(title)
    names = [name for name in METRICS if name in box]
    page.table(names, [[_percent(box[name]) for name in names]])
    classes = [(name.removeprefix("AP-"), value) for name, value in box.items() if name.startswith("AP-")]
    classes.sort(key=lambda item: -1 if math.isnan(item[1]) else item[1])
    page.table(["class", "AP"], [(name, _percent(value)) for name, value in classes])


def _percent(value: float) -> str:
    """Return one decimal; NaN means that no box of the ground truth belongs to the metric."""
    return "n/a (no ground truth)" if math.isnan(value) else f"{value:.1f}"


def _series(lines: list[dict], key: str) -> tuple[list, list]:
    """Return the iterations at which a key has finite values, and these values."""
    points = [
        (x["iteration"] + 1, x[key])
        for x in lines
        if isinstance(x.get(key), (int, float)) and math.isfinite(x[key]) and "iteration" in x
    ]
    return [i for i, _ in points], [v for _, v in points]


def _curves(page: Page, lines: list[dict]) -> None:
    """Add curves of the losses, AP and learning rate."""
    if not _series(lines, "total_loss")[0]:
        return
    page.heading("Training curves")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    losses = {
        "total_loss": "training",
        "loss_cls": "classification",
        "loss_box_reg": "boxes",
        "validation/total_loss": "validation",
    }
    keys = dict.fromkeys(key for line in lines for key in line if key.endswith(("bbox/AP", "bbox/AP50")))
    aps = {key: key.replace("bbox/", "").replace("/", ": ") for key in keys}  # with several test sets: "name: AP"
    _plot(left, lines, losses)
    if any(value > 0 for key in losses for value in _series(lines, key)[1]):
        left.set_yscale("log")
        log_numbers(left.yaxis)
    _plot(middle, lines, aps)
    _plot(right, lines, {"lr": "learning rate"})
    right.set_ylim(bottom=0)
    finish(left, title="loss", x="iteration", y="loss (logarithmic)")
    finish(middle, title="AP on the validation data", x="iteration", y="AP, %")
    finish(right, title="learning rate", x="iteration", y="learning rate")
    if not any(_series(lines, key)[0] for key in aps):
        say(middle, "no evaluation yet")
    for axes in (left, middle, right):
        integer_ticks(axes)
    page.plot(figure, "A validation loss that rises while the training loss falls means overfitting.")


def _plot(axes: plt.Axes, lines: list[dict], names: dict[str, str]) -> None:
    """Draw a curve per key that has values, with markers if they are few, and a legend below the axes."""
    for i, (key, name) in enumerate(names.items()):
        at, values = _series(lines, key)
        if at:
            marker = "o" if len(at) < 30 else None
            axes.plot(at, values, label=name, marker=marker, markersize=3.5, linewidth=1.3, **style(i))
    if len(names) > 1 and axes.lines:
        box = axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.22))
        for text in box.get_texts():
            text.set_text(plain(text.get_text()))


def _precision_recall(curves: dict[str, list[float]]) -> plt.Figure:
    """Draw a curve per class and their mean; of many classes only the best and the worst are coloured."""
    figure, axes = plt.subplots(figsize=(6.6, 3.8), layout="constrained")
    recall = np.linspace(0, 1, 101)
    known = {name: np.array(values).clip(min=0) for name, values in curves.items() if max(values, default=-1) >= 0}
    order = sorted(known, key=lambda name: -known[name].mean())
    named = order if len(order) <= MOST_CURVES else order[: MOST_CURVES // 2] + order[-(MOST_CURVES // 2) :]
    handles, names = [], []
    for name in order:
        if name not in named:
            axes.plot(recall, known[name], color="0.8", linewidth=0.7, zorder=1)
    for i, name in enumerate(named):
        handles += axes.plot(recall, known[name], linewidth=1.3, **style(i))
        names.append(name)
    if len(known) > 1:
        handles += axes.plot(recall, np.mean(list(known.values()), axis=0), color="black", linewidth=2.4)
        names.append(f"mean of {len(known)} classes")
    title = "precision over recall"
    if len(named) < len(order):
        title += f", best and worst of {len(order)} classes"
    finish(axes, title=title, x="recall", y="precision")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    if not known:
        say(axes, "no class has a box")
    legend_beside(figure, handles, names)
    return figure


def _examples(page: Page, cfg: CfgNode, folder: Path, *, score: float) -> None:
    """Add pictures of the images with the most mistakes from a score on, and of the two with the fewest."""
    file = folder / "coco_instances_results.json"
    if not cfg.DATASETS.TEST or not file.is_file() or cfg.DATASETS.TEST[0] not in DatasetCatalog:
        return
    records = DatasetCatalog.get(cfg.DATASETS.TEST[0])
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    contiguous = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    found = defaultdict(list)
    for detection in json.loads(file.read_text(encoding="utf-8")):
        if detection["score"] >= score:
            found[detection["image_id"]].append(detection)
    judged = [(record, *_judge(record, found[record["image_id"]], contiguous)) for record in records]
    judged.sort(key=lambda item: -item[-1].count)
    wrong = sum(item[-1].count > 0 for item in judged)
    page.heading("Detections, worst images first")
    page.text(
        f"{wrong} of {len(judged)} images have mistakes at score {score:.2f}, which gives the best F1, and IoU 0.5. "
        "Labels that would hide a small box, or repeat in a crowd, are left out."
    )
    page.legend(
        [
            ("correct", COLOURS[RIGHT]),
            ("wrong: class, position or duplicate", COLOURS[WRONG]),
            ("missed, dashed", COLOURS[MISSED]),
        ]
    )
    read = build_reader(cfg, "BGR")
    for record, boxes, classes, scores, errors in judged[: EXAMPLES - 2] + judged[max(EXAMPLES - 2, len(judged) - 2) :]:
        try:
            image = np.ascontiguousarray(read(record["file_name"]))
        except (OSError, ValueError) as error:
            page.text(f"{record['image_id']} is not shown: {error}")
            continue
        wrong, missed, right = int((~errors.right).sum()), int(errors.missed.sum()), int(errors.right.sum())
        drawn = _draw(image, record, boxes, classes, scores, errors, metadata.thing_classes)
        page.picture(drawn, f"{record['image_id']}: {wrong} wrong, {missed} missed, {right} correct")


def _judge(record: dict, found: list[dict], contiguous: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, ImageErrors]:
    """Return the boxes (D, 4) XYXY, classes (D,) and scores (D,) of an image's detections, and its errors."""
    boxes = np.array([x["bbox"] for x in found], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = np.array([contiguous.get(x["category_id"], x["category_id"]) for x in found], dtype=int)
    scores = np.array([x["score"] for x in found], dtype=float)
    truth = [x for x in record["annotations"] if not x.get("iscrowd")]
    gt_boxes = np.array([x["bbox"] for x in truth], dtype=float).reshape(-1, 4)
    gt_classes = np.array([x["category_id"] for x in truth], dtype=int)
    return boxes, classes, scores, image_errors(boxes, classes, scores, gt_boxes, gt_classes)


def _draw(
    image: np.ndarray,
    record: dict,
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    errors: ImageErrors,
    names: Sequence[str],
) -> np.ndarray:
    """Draw correct, wrong and missed boxes on an image: (H, W, 3) uint8, BGR."""
    truth = [x for x in record["annotations"] if not x.get("iscrowd")]
    missed = [x for x, was in zip(truth, errors.missed, strict=True) if was]
    every = np.concatenate([boxes, np.array([x["bbox"] for x in missed], dtype=float).reshape(-1, 4)])
    labels = [f"{names[k]} {score:.2f}" for k, score in zip(classes, scores, strict=True)]
    labels += [names[x["category_id"]] for x in missed]
    kinds = [RIGHT if right else WRONG for right in errors.right] + [MISSED] * len(missed)
    scale = fitting_scale(image.shape[:2], every, width=PICTURE_WIDTH)
    return draw_boxes(image, every, labels, kinds, scale=scale, colours=COLOURS, dashed=[MISSED])


def _cost(page: Page, cfg: CfgNode, summary: dict, lines: list[dict]) -> None:
    """Add a table of speed, memory and size."""
    times = [x["time"] for x in lines if "time" in x]
    if not times:
        return
    page.heading("Speed and memory")
    seconds = float(np.median(times))
    waiting = float(np.median([x["data_time"] for x in lines if "data_time" in x] or [0.0]))
    rows = [
        ("seconds per iteration", f"{seconds:.3f}"),
        ("images per second", f"{cfg.SOLVER.IMS_PER_BATCH / seconds:.1f}"),
        ("waiting for data", f"{100 * waiting / seconds:.0f} %"),
    ]
    if summary:
        total, trained = summary["parameters"] / 1e6, summary["trained_parameters"] / 1e6
        rows += [
            ("parameters", f"{total:.2f} M, of which {trained:.2f} M are trained"),
            ("peak memory", f"{summary['peak_memory_mib']:,.0f} MiB"),
            ("machine", f"{summary['machine']}, {summary['precision']}"),
        ]
    page.table(["", ""], rows)
