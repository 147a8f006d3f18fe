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
from retina_plugin.data.pixels import build_reader
from retina_plugin.analysis.errors import ImageErrors, image_errors
from retina_plugin.evaluation.hotcoco import PRECISION_RECALL
from retina_plugin.evaluation.result_table import METRICS
from retina_plugin.paths import shipped
from retina_plugin.report.drawing import draw_boxes, fitting_scale
from retina_plugin.report.figures import finish, legend_beside, log_numbers, plain, say, style
from retina_plugin.report.page import Page

METHOD = "configs/Base-RetinaNet.yaml"
EXAMPLES = 8
PICTURE_WIDTH = 480
SHOWN_SCORE = 0.5

RIGHT, WRONG, MISSED = 0, 1, 2
COLOURS = np.array([[136, 153, 0], [17, 51, 204], [230, 150, 0]], dtype=np.uint8)
"""Green: right; red: wrong; blue, with dashes: missed (BGR). Colour-blind people tell these apart."""

MOST_CURVES = 8
"""Classes with a precision-recall curve of their own; of more the best and the worst have one."""

REPORT = "report.html"

ACCOUNT = "dataset.txt"
"""In the folder of a run on data that --data found: what became of its images, files and boxes."""


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
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    cfg = CfgNode(settings)
    lines = _json_lines(folder / "metrics.json")
    page = Page(
        f"Run {folder.name}",
        f"trained on {', '.join(cfg.DATASETS.TRAIN)}, evaluated on {', '.join(cfg.DATASETS.TEST) or 'nothing'}; {_progress(cfg, lines)}",
    )
    if (folder / ACCOUNT).is_file():
        page.heading("Data")
        for line in (folder / ACCOUNT).read_text(encoding="utf-8").splitlines():
            page.text(line)
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
    page.table(["key", "method", "this run"], differences(settings))
    page.write(folder / REPORT)
    return folder / REPORT


def differences(settings: dict) -> list[tuple[str, object, object]]:
    """(key, value in Base-RetinaNet.yaml, value here) of the keys of a resolved config that differ from it."""
    base = get_cfg()
    add_retina_config(base)
    base.merge_from_other_cfg(CfgNode(CfgNode.load_yaml_with_base(str(shipped(METHOD)))))
    here = CfgNode(settings)
    known = set(all_keys(base))
    plain = lambda value: list(value) if isinstance(value, tuple) else value  # noqa: E731
    found = [
        (key, plain(get_key(base, key)) if key in known else "-", plain(get_key(here, key))) for key in all_keys(here)
    ]
    return [(key, old, new) for key, old, new in found if old != new and not (isinstance(old, CfgNode) and not old)]


def _load(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _json_lines(file: Path) -> list[dict]:
    """Lines of ``metrics.json``; of an iteration that a resumed run did again the later one."""
    by_iteration: dict[int, dict] = defaultdict(dict)
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # killed while it wrote
                continue
            if isinstance(values, dict):
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
    page.table(
        ["class", "AP"],
        [(name, _percent(value)) for name, value in sorted(classes, key=lambda x: -1 if math.isnan(x[1]) else x[1])],
    )


def _percent(value: float) -> str:
    return "no such box" if math.isnan(value) else f"{value:.1f}"


def _series(lines: list[dict], key: str) -> tuple[list, list]:
    """Iterations, and the finite values that a key has there."""
    points = [
        (x["iteration"] + 1, x[key])
        for x in lines
        if isinstance(x.get(key), (int, float)) and math.isfinite(x[key]) and "iteration" in x
    ]
    return [i for i, _ in points], [v for _, v in points]


def _curves(page: Page, lines: list[dict]) -> None:
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
    aps = {
        key: key.replace("bbox/", "").replace("/", ": ") for key in keys
    }  # several test sets: their names stand before
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
        axes.xaxis.get_major_locator().set_params(integer=True)
    page.plot(figure, "A validation loss that rises while the training loss falls means overfitting.")


def _plot(axes: plt.Axes, lines: list[dict], names: dict[str, str]) -> None:
    """A curve of each key that has values, with a marker at each of few; the legend stands below the axes."""
    for i, (key, name) in enumerate(names.items()):
        at, values = _series(lines, key)
        if at:
            axes.plot(
                at, values, label=name, marker="o" if len(at) < 30 else None, markersize=3.5, linewidth=1.3, **style(i)
            )
    if len(names) > 1 and axes.lines:
        box = axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.22))
        for text in box.get_texts():
            text.set_text(plain(text.get_text()))


def _precision_recall(curves: dict[str, list[float]]) -> plt.Figure:
    """A curve per class; of many classes the best and the worst, the others in grey, and the mean of all."""
    figure, axes = plt.subplots(figsize=(6.6, 3.8), layout="constrained")
    recall, known = (
        np.linspace(0, 1, 101),
        {name: np.array(values) for name, values in curves.items() if max(values, default=-1) >= 0},
    )
    order = sorted(known, key=lambda name: -known[name].clip(min=0).mean())
    named = order if len(order) <= MOST_CURVES else order[: MOST_CURVES // 2] + order[-(MOST_CURVES // 2) :]
    handles, names = [], []
    for name in order:
        if name not in named:
            axes.plot(recall, known[name].clip(min=0), color="0.8", linewidth=0.7, zorder=1)
    for i, name in enumerate(named):
        handles += axes.plot(recall, known[name].clip(min=0), linewidth=1.3, **style(i))
        names.append(name)
    if len(known) > 1:
        handles += axes.plot(
            recall, np.mean([values.clip(min=0) for values in known.values()], axis=0), color="black", linewidth=2.4
        )
        names.append(f"mean of {len(known)} classes")
    finish(
        axes,
        title="precision over recall"
        + (f", best and worst of {len(order)} classes" if len(named) < len(order) else ""),
        x="recall",
        y="precision",
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    if not known:
        say(axes, "no class has a box")
    legend_beside(figure, handles, names)
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
    for detection in json.loads(file.read_text(encoding="utf-8")):
        if detection["score"] >= SHOWN_SCORE:
            found[detection["image_id"]].append(detection)
    judged = [(record, *_judge(record, found[record["image_id"]], contiguous)) for record in records]
    judged.sort(key=lambda item: -item[-1].count)
    wrong = sum(item[-1].count > 0 for item in judged)
    page.heading("What it finds, the worst first")
    page.text(
        f"{wrong} of {len(judged)} images have a mistake at score {SHOWN_SCORE} and IoU 0.5. Labels that would hide a small box, or repeat in a crowd, are left out."
    )
    page.legend(
        [
            ("right", COLOURS[RIGHT]),
            ("wrong: the class, the place, or found twice", COLOURS[WRONG]),
            ("missed, with dashes", COLOURS[MISSED]),
        ]
    )
    read = build_reader(cfg, "BGR")
    for record, boxes, classes, scores, errors in judged[: EXAMPLES - 2] + judged[max(EXAMPLES - 2, len(judged) - 2) :]:
        try:
            image = np.ascontiguousarray(read(record["file_name"]))
        except (OSError, ValueError) as error:
            page.text(f"{record['image_id']} is not shown: {error}")
            continue
        page.picture(
            _draw(image, record, boxes, classes, scores, errors, metadata.thing_classes),
            f"{record['image_id']}: {int((~errors.right).sum())} wrong, {int(errors.missed.sum())} missed, {int(errors.right.sum())} right",
        )


def _judge(record: dict, found: list[dict], contiguous: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray, ImageErrors]:
    boxes = np.array([x["bbox"] for x in found], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = np.array([contiguous.get(x["category_id"], x["category_id"]) for x in found], dtype=int)
    scores = np.array([x["score"] for x in found], dtype=float)
    truth = [x for x in record["annotations"] if not x.get("iscrowd")]
    gt_boxes, gt_classes = (
        np.array([x["bbox"] for x in truth], dtype=float).reshape(-1, 4),
        np.array([x["category_id"] for x in truth], dtype=int),
    )
    return boxes, classes, scores, image_errors(boxes, classes, scores, gt_boxes, gt_classes)


def _draw(
    image: np.ndarray,
    record: dict,
    boxes: np.ndarray,
    classes: np.ndarray,
    scores: np.ndarray,
    errors: ImageErrors,
    names: list[str],
) -> np.ndarray:
    truth = [x for x in record["annotations"] if not x.get("iscrowd")]
    missed = [x for x, was in zip(truth, errors.missed, strict=True) if was]
    every = np.concatenate([boxes, np.array([x["bbox"] for x in missed], dtype=float).reshape(-1, 4)])
    labels = [f"{names[k]} {score:.2f}" for k, score in zip(classes, scores, strict=True)] + [
        names[x["category_id"]] for x in missed
    ]
    kinds = [RIGHT if right else WRONG for right in errors.right] + [MISSED] * len(missed)
    scale = fitting_scale(image.shape[:2], every, width=PICTURE_WIDTH)
    return draw_boxes(image, every, labels, kinds, scale=scale, colours=COLOURS, dashed=[MISSED])


def _cost(page: Page, cfg: CfgNode, summary: dict, lines: list[dict]) -> None:
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
        rows += [
            (
                "parameters",
                f"{summary['parameters'] / 1e6:.2f} M, {summary['trained_parameters'] / 1e6:.2f} M of them trained",
            ),
            ("peak memory", f"{summary['peak_memory_mib']:,.0f} MiB"),
            ("machine", f"{summary['machine']}, {summary['precision']}"),
        ]
    page.table(["", ""], rows)
