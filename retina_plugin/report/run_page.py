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

from retina_plugin.analysis.advice import advise
from retina_plugin.analysis.detections import read_detections
from retina_plugin.analysis.diagnosis import Diagnosis, diagnose
from retina_plugin.config import add_retina_config
from retina_plugin.config.key import changed_keys
from retina_plugin.data.pixels import build_reader
from retina_plugin.evaluation.result_table import METRICS
from retina_plugin.evaluation.rows import PREDICTIONS
from retina_plugin.paths import shipped
from retina_plugin.report.analysis_page import (
    add_classes,
    add_errors,
    add_overview,
    add_slices,
    add_worst_images,
)
from retina_plugin.report.figures import finish, integer_ticks, log_numbers, plain, say, style
from retina_plugin.report.page import Page

METHOD = "configs/Base-RetinaNet.yaml"
REPORT = "report.html"

ACCOUNT = "dataset.txt"
"""File in the folder of a run on data found by --data: how its images, files and boxes were used."""


PLANNED = "planned.json"
"""File in the folder of a run that was planned from its data, see :mod:`retina_plugin.plan.plan`."""


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
    lines = json_lines(folder / "metrics.json")
    trained, evaluated = ", ".join(cfg.DATASETS.TRAIN), ", ".join(cfg.DATASETS.TEST) or "nothing"
    page = Page(f"Run {folder.name}", f"trained on {trained}, evaluated on {evaluated}; {_progress(cfg, lines)}")
    found = _analysis(cfg, folder, lines)
    if found is not None:
        add_overview(page, found)
    if (folder / ACCOUNT).is_file():
        page.heading("Data")
        for line in (folder / ACCOUNT).read_text(encoding="utf-8").splitlines():
            page.text(line)
    _plan(page, _load(folder / PLANNED).get("choices", []))
    results = _load(folder / "results.json")
    if results.get("bbox") and found is None:
        _results(page, results["bbox"], "Result")
    if final := _load(folder / "final_test/results.json").get("bbox"):
        unused = ", ".join(cfg.DATASETS.FINAL_TEST)
        _results(page, final, f"Best weights on {unused}, which had no part in choosing them")
    _curves(page, lines)
    if found is not None:
        add_errors(page, found)
        add_classes(page, found)
        add_slices(page, found)
        add_worst_images(page, found, build_reader(cfg, "BGR"))
    _cost(page, cfg, _load(folder / "summary.json"), lines)
    page.heading("Differences from the method")
    page.text("Config keys that differ from Base-RetinaNet.yaml, the paper's method with Detectron2's refinements:")
    page.table(["key", "method", "this run"], differences(settings))
    page.write(folder / REPORT)
    return folder / REPORT


def _analysis(cfg: CfgNode, folder: Path, lines: list[dict]) -> Diagnosis | None:
    """Return the analysis of the detections in the folder of a run; None if there are none that can be judged."""
    if not cfg.DATASETS.TEST or not (folder / PREDICTIONS).is_file():
        return None
    try:
        found = diagnose(read_detections(folder), samples=0)
    except (ValueError, FileNotFoundError):
        return None
    found.advice = [*_best_and_last(lines), *advise(found, metrics=lines)]
    return found


def _best_and_last(lines: list[dict]) -> list[str]:
    """Return a sentence on which weights the results are of, if the best ones are not the last."""
    at, values = _series(lines, "bbox/AP")
    if not values or max(values) == values[-1]:
        return []
    best = values.index(max(values))
    last = f"These are results of the last weights (model_final.pth, iteration {at[-1]})"
    return [f"{last}; model_best.pth is from iteration {at[best]}, with AP {values[best]:.1f}."]


def differences(settings: dict) -> list[tuple[str, object, object]]:
    """Return (key, value in Base-RetinaNet.yaml, value here) of the keys of a resolved config that differ from it."""
    base = get_cfg()
    add_retina_config(base)
    base.merge_from_other_cfg(CfgNode(CfgNode.load_yaml_with_base(str(shipped(METHOD)))))
    return changed_keys(base, CfgNode(settings))


def _plan(page: Page, choices: list[dict]) -> None:
    """Add what was planned from the data, and why; nothing if nothing was."""
    if not choices:
        return
    page.heading("Plan")
    rows = [
        (x["what"], ", ".join(f"{key} {value}" for key, value in x["settings"].items()), x["why"], x["cost"])
        for x in choices
    ]
    page.table(("what", "value", "why", "cost"), rows)


def _load(file: Path) -> dict:
    """Return the content of a JSON file; empty if there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def json_lines(file: Path) -> list[dict]:
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
