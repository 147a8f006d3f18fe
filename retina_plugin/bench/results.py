"""Results of a benchmark run: JSON, a Markdown table and a plot."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.pyplot as plt

from retina_plugin.bench.measure import median_and_spread
from retina_plugin.hardware import describe_hardware


@dataclass
class Row:
    """Result of one implementation of a case.

    Args:
        case: name of the case.
        title: title of the case.
        implementation: name of the implementation.
        seconds: seconds in each round.
        extra_bytes: peak memory above what was allocated before, in a fresh process; None if not measured.
    """

    case: str
    title: str
    implementation: str
    seconds: list[float]
    extra_bytes: float | None = None


def table(rows: list[Row], notes: list[str]) -> str:
    """Format the results as Markdown: median ± half the interquartile range, speed-up, and memory.

    The speed-up is relative to the first implementation of the case.
    """
    lines = ["| | implementation | time | times faster | extra memory |", "|---|---|---|---|---|"]
    seen: dict[str, float] = {}
    for row in rows:
        median, spread = median_and_spread(row.seconds)
        first = row.case not in seen
        reference = seen.setdefault(row.case, median)
        memory = "" if row.extra_bytes is None else f"{row.extra_bytes / 2**20:,.0f} MiB"
        title, ratio = (row.title, "1") if first else ("", f"**{reference / median:.2f}**")
        seconds = f"{_time(median)} ± {_time(spread)}"
        lines.append(f"| {title} | {row.implementation} | {seconds} | {ratio} | {memory} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def _time(seconds: float) -> str:
    """Format a time with its unit, seconds or milliseconds."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def plot(rows: list[Row], file: Path) -> None:
    """Draw a bar per implementation: how many times faster it is than the reference of its case."""
    reference: dict[str, float] = {}
    names, ratios, colours = [], [], []
    for row in rows:
        median = median_and_spread(row.seconds)[0]
        colours.append("tab:blue" if row.case in reference else "0.7")
        names.append(f"{row.case}: {row.implementation}")
        ratios.append(reference.setdefault(row.case, median) / median)
    figure, axes = plt.subplots(figsize=(8, 0.3 * len(rows) + 1), layout="constrained")
    axes.barh(names, ratios, color=colours)
    for i, ratio in enumerate(ratios):
        axes.text(ratio, i, f" {ratio:.1f}", va="center", fontsize=8)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.5, 2 * max(ratios))
    axes.set_xlabel("times faster than the grey bar above (logarithmic)")
    axes.tick_params(labelsize=8)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def write(rows: list[Row], notes: list[str], folder: Path) -> str:
    """Write ``bench.json``, ``bench.md`` and ``bench.png`` to ``folder``, and return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    text = table(rows, [describe_hardware(), *notes])
    data = {"machine": describe_hardware(), "notes": notes, "rows": [asdict(row) for row in rows]}
    (folder / "bench.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
    (folder / "bench.md").write_text(text, encoding="utf-8")
    plot(rows, folder / "bench.png")
    return text
