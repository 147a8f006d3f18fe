"""The table of a sweep as a picture."""

from pathlib import Path

import matplotlib.pyplot as plt

from retina_plugin.ablation.table import SweepTable
from retina_plugin.names import plain_label


def draw(table: SweepTable, file: Path) -> None:
    """Write a PNG: every seed and the mean of the first reported metric, row by row, and the paper's beside it."""
    metric, rows = table.sweep.report[0], table.rows
    names = [", ".join(row.labels) for row in rows]
    shown = [plain_label(name) for name in names]
    paper = {i: table.sweep.paper[name][metric] for i, name in enumerate(names) if metric in table.sweep.paper.get(name, {})}
    figure, panels = plt.subplots(1, 2 if paper else 1, sharey=True, squeeze=False, figsize=(10 if paper else 6, 1.4 + 0.34 * len(rows)), layout="constrained")
    ours = panels[0][0]
    for i, row in enumerate(rows):
        values = row.values.get(metric, [])
        ours.plot(values, [i] * len(values), "o", color="tab:blue", alpha=0.35, markersize=5)
        if values:
            ours.plot(row.mean(metric), i, "|", color="tab:blue", markersize=15, markeredgewidth=2.5)
        else:
            ours.annotate("failed" if row.failed else "not run", (0.02, i), xycoords=("axes fraction", "data"), color="tab:red", va="center")
    _finish(ours, f"{table.sweep.name}: {metric}, each seed and the mean")
    base = rows[table.sweep.rows.index(table.sweep.compare_to)].mean(metric)
    if base is not None:
        ours.axvline(base, color="tab:blue", linewidth=0.8, linestyle=":")
    ours.set_yticks(range(len(rows)), shown)
    ours.set_ylabel(plain_label(", ".join(axis.rsplit(".")[-1] for axis in table.sweep.axes)))
    ours.invert_yaxis()
    if paper:
        panels[0][1].plot(list(paper.values()), list(paper), "|", color="tab:orange", markersize=15, markeredgewidth=2.5)
        _finish(panels[0][1], f"published, on COCO: {metric}")
    figure.suptitle(plain_label(table.sweep.title), fontsize=11)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _finish(axes: plt.Axes, title: str) -> None:
    axes.set_title(plain_label(title), fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08)
