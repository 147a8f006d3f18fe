"""The table of a sweep as a picture."""

import statistics
from pathlib import Path

import matplotlib.pyplot as plt

from retina_plugin.ablation.table import SweepTable, TableRow

OURS, PAPER, FAILED = "#0072B2", "#D55E00", "#CC3311"
"""Blue and orange that colour-blind people can distinguish (Okabe and Ito 2008), and a red for text."""

LONGEST_LABEL = 44
"""Maximum characters of a row's name; a longer one is shortened in the middle."""


def draw(table: SweepTable, file: Path) -> None:
    """Write a PNG with a line per row: the first reported metric of every seed, their mean, and the paper's value.

    Args:
        table: the table of the sweep.
        file: the picture to write.
    """
    metric, rows = table.sweep.report[0], table.rows
    names = [", ".join(row.labels) for row in rows]
    published = [table.sweep.paper.get(name, {}).get(metric) for name in names]
    paper = {i: value for i, value in enumerate(published) if value is not None}
    columns, size = (2, (10, 1.7 + 0.34 * len(rows))) if paper else (1, (7, 1.7 + 0.34 * len(rows)))
    figure, panels = plt.subplots(1, columns, sharey=True, squeeze=False, figsize=size, layout="constrained")
    ours = panels[0][0]
    for i, row in enumerate(rows):
        _draw_row(ours, i, row, metric)
    base = rows[table.sweep.rows.index(table.sweep.compare_to)].mean(metric)
    title = f"{_shortened(table.sweep.name)}: each seed and the mean"
    if base is not None:
        ours.axvline(base, color=OURS, linewidth=0.8, linestyle=":")
        title += "\ndotted: mean of the row compared to"
    _finish(ours, title, metric, any(row.values.get(metric) for row in rows))
    ours.set_yticks(range(len(rows)), [_shortened(name) for name in names], parse_math=False)
    ours.set_ylabel(_shortened(", ".join(axis.rsplit(".")[-1] for axis in table.sweep.axes)), parse_math=False)
    ours.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    if paper:
        panels[0][1].plot(list(paper.values()), list(paper), "|", color=PAPER, markersize=15, markeredgewidth=2.5)
        _finish(panels[0][1], "published, on COCO", metric, True)
    figure.suptitle(table.sweep.title, fontsize=11, parse_math=False, wrap=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _draw_row(axes: plt.Axes, i: int, row: TableRow, metric: str) -> None:
    """Draw the values of row i and their mean, or why there are none."""
    values = row.values.get(metric, [])
    axes.plot(values, [i] * len(values), "o", color=OURS, alpha=0.35, markersize=5)
    if values:
        axes.plot([statistics.fmean(values)], [i], "|", color=OURS, markersize=15, markeredgewidth=2.5)
    else:
        why = "failed" if row.failed else "not run"
        axes.annotate(why, (0.02, i), xycoords=("axes fraction", "data"), color=FAILED, va="center")


def _finish(axes: plt.Axes, title: str, metric: str, any_values: bool) -> None:
    """Set the title, the label and the ticks of an x axis in percent."""
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.set_xlabel(f"{metric}, %", parse_math=False)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08)
    axes.ticklabel_format(axis="x", useOffset=False)
    if not any_values:
        axes.set_xlim(0, 100)


def _shortened(name: str) -> str:
    """Return a name as one line, shortened in the middle: names differ as often at their ends as at their starts."""
    name = " ".join(name.split())
    half = (LONGEST_LABEL - 3) // 2
    return name if len(name) <= LONGEST_LABEL else f"{name[:half]}...{name[-half:]}"
