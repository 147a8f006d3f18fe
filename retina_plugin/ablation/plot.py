"""The table of a sweep as a picture."""

from pathlib import Path

import matplotlib.pyplot as plt

from retina_plugin.ablation.table import SweepTable

OURS, PAPER, FAILED = "#0072B2", "#D55E00", "#CC3311"
"""Blue and orange that colour-blind people tell apart (Okabe and Ito 2008), and a red for words."""

LONGEST_LABEL = 44
"""Characters of a row's name; a longer one loses its middle."""


def draw(table: SweepTable, file: Path) -> None:
    """Write a PNG: every seed and the mean of the first reported metric, row by row, and the paper's beside it."""
    metric, rows = table.sweep.report[0], table.rows
    names = [", ".join(row.labels) for row in rows]
    paper = {
        i: table.sweep.paper[name][metric] for i, name in enumerate(names) if metric in table.sweep.paper.get(name, {})
    }
    figure, panels = plt.subplots(
        1,
        2 if paper else 1,
        sharey=True,
        squeeze=False,
        figsize=(10 if paper else 7, 1.7 + 0.34 * len(rows)),
        layout="constrained",
    )
    ours = panels[0][0]
    for i, row in enumerate(rows):
        values = row.values.get(metric, [])
        ours.plot(values, [i] * len(values), "o", color=OURS, alpha=0.35, markersize=5)
        if values:
            ours.plot(row.mean(metric), i, "|", color=OURS, markersize=15, markeredgewidth=2.5)
        else:
            ours.annotate(
                "failed" if row.failed else "not run",
                (0.02, i),
                xycoords=("axes fraction", "data"),
                color=FAILED,
                va="center",
            )
    base = rows[table.sweep.rows.index(table.sweep.compare_to)].mean(metric)
    if base is not None:
        ours.axvline(base, color=OURS, linewidth=0.8, linestyle=":")
    _finish(
        ours,
        f"{_shortened(table.sweep.name)}: each seed and the mean"
        + ("" if base is None else "\ndotted: mean of the row compared to"),
        metric,
        any(row.values.get(metric) for row in rows),
    )
    ours.set_yticks(range(len(rows)), [_shortened(name) for name in names], parse_math=False)
    ours.set_ylabel(_shortened(", ".join(axis.rsplit(".")[-1] for axis in table.sweep.axes)), parse_math=False)
    ours.set_ylim(len(rows) - 0.4, -0.6)  # the first row on top
    if paper:
        panels[0][1].plot(list(paper.values()), list(paper), "|", color=PAPER, markersize=15, markeredgewidth=2.5)
        _finish(panels[0][1], "published, on COCO", metric, True)
    figure.suptitle(table.sweep.title, fontsize=11, parse_math=False, wrap=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _finish(axes: plt.Axes, title: str, metric: str, any_values: bool) -> None:
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.set_xlabel(f"{metric}, %", parse_math=False)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08)
    axes.ticklabel_format(axis="x", useOffset=False)
    if not any_values:
        axes.set_xlim(0, 100)


def _shortened(name: str) -> str:
    """One line without the middle of a long name; parts of a row differ at their ends as often as at their beginnings."""
    name = " ".join(name.split())
    half = (LONGEST_LABEL - 3) // 2
    return name if len(name) <= LONGEST_LABEL else f"{name[:half]}...{name[-half:]}"
