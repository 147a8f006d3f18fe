"""What a benchmark run leaves behind: JSON, a Markdown table and a plot."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.pyplot as plt

from retina_plugin.bench.measure import median_and_spread
from retina_plugin.hardware import describe_hardware


@dataclass
class Row:
    """One side of a case.

    Args:
        case, title, side: which.
        seconds: of each round.
        extra_bytes: most memory held above what was held before, in a fresh process; None if not measured.
    """

    case: str
    title: str
    side: str
    seconds: list[float]
    extra_bytes: float | None = None


def table(rows: list[Row], notes: list[str]) -> str:
    """Markdown: median ± half the quartile distance, ratio to the first side of the case, and memory."""
    lines = ["| | side | time | times faster | extra memory |", "|---|---|---|---|---|"]
    seen: dict[str, float] = {}
    for row in rows:
        median, spread = median_and_spread(row.seconds)
        first = row.case not in seen
        reference = seen.setdefault(row.case, median)
        memory = "" if row.extra_bytes is None else f"{row.extra_bytes / 2**20:,.0f} MiB"
        lines.append(
            f"| {row.title if first else ''} | {row.side} | {_time(median)} ± {_time(spread)} | {'1' if first else f'**{reference / median:.2f}**'} | {memory} |"
        )
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def plot(rows: list[Row], file: Path) -> None:
    """Bars of how many times faster than the reference each side is."""
    reference = {}
    for row in rows:
        reference.setdefault(row.case, median_and_spread(row.seconds)[0])
    bars = [(f"{row.case}: {row.side}", reference[row.case] / median_and_spread(row.seconds)[0]) for row in rows]
    figure, axes = plt.subplots(figsize=(8, 0.3 * len(bars) + 1), layout="constrained")
    firsts = {next(i for i, row in enumerate(rows) if row.case == case) for case in reference}
    axes.barh(
        [name for name, _ in bars],
        [ratio for _, ratio in bars],
        color=["0.7" if i in firsts else "tab:blue" for i in range(len(bars))],
    )
    for i, (_, ratio) in enumerate(bars):
        axes.text(ratio, i, f" {ratio:.1f}", va="center", fontsize=8)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.5, 2 * max(ratio for _, ratio in bars))
    axes.set_xlabel("times faster than the grey bar above (logarithmic)")
    axes.tick_params(labelsize=8)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def write(rows: list[Row], notes: list[str], folder: Path) -> str:
    """Write ``bench.json``, ``bench.md`` and ``bench.png`` to ``folder``; return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    text = table(rows, [describe_hardware(), *notes])
    (folder / "bench.json").write_text(
        json.dumps({"machine": describe_hardware(), "notes": notes, "rows": [asdict(row) for row in rows]}, indent=1),
        encoding="utf-8",
    )
    (folder / "bench.md").write_text(text, encoding="utf-8")
    plot(rows, folder / "bench.png")
    return text
