"""The page of a run, from the files in its folder."""

import json
import math
import os
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import yaml

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin.config import add_retina_config, all_keys, get_key
from retina_plugin.data.mapper import read_image
from retina_plugin.evaluation.errors import ImageErrors, image_errors
from retina_plugin.evaluation.hotcoco import PRECISION_RECALL
from retina_plugin.evaluation.table import METRICS
from retina_plugin.report.drawing import draw_boxes
from retina_plugin.report.page import Page

METHOD = Path(__file__).resolve().parents[2] / "configs/Base-RetinaNet.yaml"
EXAMPLES = 8
PICTURE_WIDTH = 480
SHOWN_SCORE = 0.5

RIGHT, WRONG, MISSED = 0, 1, 2
COLOURS = np.array([[60, 160, 40], [40, 40, 220], [0, 150, 250]], dtype=np.uint8)
"""Green: right; red: wrong; orange: missed (BGR)."""

REPORT = "report.html"


def write_run_report(folder: str | os.PathLike) -> Path:
    """Write ``report.html`` of a run that goes on or has ended: how it went, what it finds, and its worst mistakes.

    Args:
        folder: OUTPUT_DIR; needs its ``config.yaml``; the other parts of the page are those whose files are there.

    Raises:
        FileNotFoundError: it holds no run.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"{folder} holds no run: it has no config.yaml")
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    cfg = CfgNode(settings)
    lines = _json_lines(folder / "metrics.json")
    page = Page(f"Run {folder.name}", f"trained on {', '.join(cfg.DATASETS.TRAIN)}, evaluated on {', '.join(cfg.DATASETS.TEST) or 'nothing'}; {_progress(cfg, lines)}")
    results = _load(folder / "results.json")
    if results.get("bbox"):
        _results(page, results["bbox"], "Result")
    if final := _load(folder / "final_test/results.json").get("bbox"):
        _results(page, final, f"Best weights on {', '.join(cfg.DATASETS.FINAL_TEST)}, which chose nothing")
    _curves(page, lines)
    if curves := _load(folder / PRECISION_RECALL):
        page.heading("Precision and recall at IoU 0.5")
        page.plot(_precision_recall(curves), "Each point is a score threshold: the further right, the lower.")
    _examples(page, cfg, folder)
    _cost(page, cfg, _load(folder / "summary.json"), lines)
    page.heading("What differs from the method")
    page.text("Config keys that differ from Base-RetinaNet.yaml, the paper's method with Detectron2's refinements:")
    page.table(["key", "there", "here"], differences(settings))
    page.write(folder / REPORT)
    return folder / REPORT


def differences(settings: dict) -> list[tuple[str, object, object]]:
    """(key, value in Base-RetinaNet.yaml, value here) of the keys of a resolved config that differ from it."""
    base = get_cfg()
    add_retina_config(base)
    if METHOD.is_file():
        base.merge_from_other_cfg(CfgNode(CfgNode.load_yaml_with_base(str(METHOD))))
    here = CfgNode(settings)
    known = set(all_keys(base))
    plain = lambda value: list(value) if isinstance(value, tuple) else value  # noqa: E731
    found = [(key, plain(get_key(base, key)) if key in known else "-", plain(get_key(here, key))) for key in all_keys(here)]
    return [(key, old, new) for key, old, new in found if old != new and not (isinstance(old, CfgNode) and not old)]


def _load(file: Path) -> dict:
    return json.loads(file.read_text()) if file.is_file() else {}


def _json_lines(file: Path) -> list[dict]:
    """Lines of ``metrics.json``; of an iteration that a resumed run did again the later one."""
    by_iteration: dict[int, dict] = defaultdict(dict)
    if file.is_file():
        for line in file.read_text().splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # killed while it wrote
                continue
            by_iteration[values.get("iteration", -1)].update(values)
    return [by_iteration[i] for i in sorted(by_iteration)]


def _progress(cfg: CfgNode, lines: list[dict]) -> str:
    done = lines[-1]["iteration"] + 1 if lines else 0
    return f"iteration {done} of {cfg.SOLVER.MAX_ITER}"


def _results(page: Page, box: dict, title: str) -> None:
    page.heading(title)
    names = [name for name in METRICS if name in box]
    page.table(names, [[_percent(box[name]) for name in names]])
    classes = [(name.removeprefix("AP-"), value) for name, value in box.items() if name.startswith("AP-")]
    page.table(["class", "AP"], [(name, _percent(value)) for name, value in sorted(classes, key=lambda x: -1 if math.isnan(x[1]) else x[1])])


def _percent(value: float) -> str:
    return "no such box" if math.isnan(value) else f"{value:.1f}"


def _curves(page: Page, lines: list[dict]) -> None:
    def series(key: str) -> tuple[list, list]:
        points = [(x["iteration"] + 1, x[key]) for x in lines if key in x and not math.isnan(x[key])]
        return [i for i, _ in points], [v for _, v in points]

    if not series("total_loss")[0]:
        return
    page.heading("How it went")
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.1), layout="constrained")
    for key, label, style in (("total_loss", "training", "-"), ("loss_cls", "of it classes", ":"), ("loss_box_reg", "of it boxes", "--"), ("validation/total_loss", "validation", "o-")):
        if series(key)[0]:
            left.plot(*series(key), style, label=label, markersize=4, linewidth=1.2)
    left.set_yscale("log")
    for key in ("bbox/AP", "bbox/AP50"):
        if series(key)[0]:
            middle.plot(*series(key), "o-", label=key.removeprefix("bbox/"), markersize=4)
    right.plot(*series("lr"), label="learning rate")
    for axes, title in ((left, "loss"), (middle, "AP on the validation data"), (right, "learning rate")):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("iteration", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False)
    page.plot(figure, "A validation loss that rises while the training loss falls: the images are being learnt by heart.")


def _precision_recall(curves: dict[str, list[float]]) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    recall = np.linspace(0, 1, 101)
    for name, values in list(curves.items())[:20]:
        values = np.array(values)
        axes.plot(recall[values >= 0], values[values >= 0], label=name, linewidth=1.2)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, ncols=1 + len(curves) // 11)
    return figure


def _examples(page: Page, cfg: CfgNode, folder: Path) -> None:
    """The images with the most mistakes first, and some without any."""
    file = folder / "coco_instances_results.json"
    if not cfg.DATASETS.TEST or not file.is_file() or cfg.DATASETS.TEST[0] not in DatasetCatalog:
        return
    records = DatasetCatalog.get(cfg.DATASETS.TEST[0])
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    contiguous = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    found = defaultdict(list)
    for detection in json.loads(file.read_text()):
        if detection["score"] >= SHOWN_SCORE:
            found[detection["image_id"]].append(detection)
    judged = [(record, *_judge(record, found[record["image_id"]], contiguous)) for record in records]
    judged.sort(key=lambda item: -item[-1].count)
    wrong = sum(item[-1].count > 0 for item in judged)
    page.heading("What it finds, the worst first")
    page.text(f"{wrong} of {len(judged)} images have a mistake at score {SHOWN_SCORE} and IoU 0.5. Green: right. Red: wrong, for the class, the place, or because it is there twice. Orange: missed.")
    for record, boxes, classes, scores, errors in judged[: EXAMPLES - 2] + judged[max(EXAMPLES - 2, len(judged) - 2) :]:
        page.picture(_draw(record, boxes, classes, scores, errors, metadata.thing_classes), f"{record['image_id']}: {int((~errors.right).sum())} wrong, {int(errors.missed.sum())} missed, {int(errors.right.sum())} right")


def _judge(record: dict, found: list[dict], contiguous: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, ImageErrors]:
    boxes = np.array([x["bbox"] for x in found], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = np.array([contiguous.get(x["category_id"], x["category_id"]) for x in found], dtype=int)
    scores = np.array([x["score"] for x in found], dtype=float)
    truth = [x for x in record["annotations"] if not x.get("iscrowd")]
    gt_boxes, gt_classes = np.array([x["bbox"] for x in truth], dtype=float).reshape(-1, 4), np.array([x["category_id"] for x in truth], dtype=int)
    return boxes, classes, scores, image_errors(boxes, classes, scores, gt_boxes, gt_classes)


def _draw(record: dict, boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray, errors: ImageErrors, names: list[str]) -> np.ndarray:
    image = np.ascontiguousarray(read_image(record["file_name"], "BGR"))
    truth = [x for x in record["annotations"] if not x.get("iscrowd")]
    missed = [x for x, was in zip(truth, errors.missed, strict=True) if was]
    every = np.concatenate([boxes, np.array([x["bbox"] for x in missed], dtype=float).reshape(-1, 4)])
    labels = [f"{names[k]} {score:.2f}" for k, score in zip(classes, scores, strict=True)] + [names[x["category_id"]] for x in missed]
    kinds = [RIGHT if right else WRONG for right in errors.right] + [MISSED] * len(missed)
    return draw_boxes(image, every, labels, kinds, scale=PICTURE_WIDTH / image.shape[1], colours=COLOURS)


def _cost(page: Page, cfg: CfgNode, summary: dict, lines: list[dict]) -> None:
    times = [x["time"] for x in lines if "time" in x]
    if not times:
        return
    page.heading("Speed and memory")
    seconds = float(np.median(times))
    waiting = float(np.median([x["data_time"] for x in lines if "data_time" in x] or [0.0]))
    rows = [("seconds an iteration", f"{seconds:.3f}"), ("images a second", f"{cfg.SOLVER.IMS_PER_BATCH / seconds:.1f}"), ("of it waiting for data", f"{100 * waiting / seconds:.0f} %")]
    if summary:
        rows += [("parameters", f"{summary['parameters'] / 1e6:.2f} M, {summary['trained_parameters'] / 1e6:.2f} M of them trained"), ("most memory", f"{summary['peak_memory_mib']:,.0f} MiB"), ("machine", f"{summary['machine']}, {summary['precision']}")]
    page.table(["", ""], rows)
