"""The table of a sweep: means over seeds, differences to one row, and what the paper has there."""

import csv
import dataclasses
import io
import json
import math
import statistics
from pathlib import Path

from retina_plugin.ablation.sweep import Sweep
from retina_plugin.ablation.worker import FAILED
from retina_plugin.engine.summary import SUMMARY
from retina_plugin.names import markdown_cell, one_line

CERTAIN = 2.0
"""A difference of means has to be larger than this many of its standard errors to be called one."""


@dataclasses.dataclass(frozen=True)
class TableRow:
    """What the runs of one row gave.

    Attributes:
        labels: one of each axis.
        values: metric -> its values in percent, one of each finished seed.
        parameters: of the model; None before a run is finished.
        images_per_second, peak_memory_mib: means over the runs, of training.
        failed: seed -> why.
        unfinished: seeds.
    """

    labels: tuple[str, ...]
    values: dict[str, list[float]]
    parameters: int | None
    images_per_second: float | None
    peak_memory_mib: float | None
    failed: dict[int, str]
    unfinished: list[int]

    def mean(self, metric: str) -> float | None:
        """Over the seeds; None without a finished run."""
        return statistics.fmean(self.values[metric]) if self.values.get(metric) else None

    def sd(self, metric: str) -> float | None:
        """Standard deviation over the seeds; None for fewer than two."""
        return statistics.stdev(self.values[metric]) if len(self.values.get(metric, [])) > 1 else None


@dataclasses.dataclass(frozen=True)
class SweepTable:
    """All rows of a sweep.

    Attributes:
        sweep: what was asked for.
        rows: what came out, in the order of ``sweep.rows``.
        machines: that the runs ran on.
    """

    sweep: Sweep
    rows: list[TableRow]
    machines: list[str]

    def spread(self, metric: str) -> float | None:
        """Standard deviation of one run over seeds, pooled over all rows; None where no row has two seeds."""
        several = [row.values[metric] for row in self.rows if len(row.values.get(metric, [])) > 1]
        freedom = sum(len(values) - 1 for values in several)
        return math.sqrt(sum(statistics.variance(values) * (len(values) - 1) for values in several) / freedom) if freedom else None

    def difference(self, row: TableRow, metric: str) -> tuple[float, bool | None] | None:
        """Of a row's mean to that of the row compared to, and whether it is more than seeds explain.

        Returns:
            (difference, certain): certain is None where no spread is known, else whether the difference is larger than
            ``CERTAIN`` of its standard errors, sd * sqrt(1 / n + 1 / m) for n and m seeds and the pooled sd. None: no runs to compare.
        """
        base = next(r for r in self.rows if r.labels == self.sweep.compare_to)
        if row is base or row.mean(metric) is None or base.mean(metric) is None:
            return None
        difference, spread = row.mean(metric) - base.mean(metric), self.spread(metric)
        if spread is None:
            return difference, None
        return difference, abs(difference) > CERTAIN * spread * math.sqrt(1 / len(row.values[metric]) + 1 / len(base.values[metric]))

    def markdown(self) -> str:
        """The table, and below it what its columns are."""
        sweep, compared = self.sweep, self.sweep.report[0]
        published = [metric for metric in sweep.report if any(metric in values for values in sweep.paper.values())]
        header = [*sweep.axes, *sweep.report, f"Δ {compared}", "parameters, M", "images/s", "memory, MiB", *(f"paper's {metric}" for metric in published)]
        lines = [f"| {' | '.join(map(_heading, header))} |", "|---" * len(header) + "|"]
        for row in self.rows:
            paper = sweep.paper.get(", ".join(row.labels), {})
            cells = [
                *map(markdown_cell, row.labels), *(self._cell(row, metric) for metric in sweep.report), self._difference(row, compared),
                _number(row.parameters and row.parameters / 1e6, 2), _number(row.images_per_second, 1), _number(row.peak_memory_mib, 0),
                *(_number(paper.get(metric), 1) for metric in published),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, "", *self._notes(), ""])

    def _cell(self, row: TableRow, metric: str) -> str:
        mean, sd = row.mean(metric), row.sd(metric)
        if mean is None:
            return "failed" if row.failed else "not run"
        return f"{mean:.1f}" + (f" ± {sd:.1f}" if sd is not None else "")

    def _difference(self, row: TableRow, metric: str) -> str:
        if row.labels == self.sweep.compare_to:
            return "base"
        if (difference := self.difference(row, metric)) is None:
            return ""
        value, certain = difference
        return f"{round(value, 1) + 0.0:+.1f}" + {True: "", False: ", within the spread", None: ", one seed"}[certain]

    def _notes(self) -> list[str]:
        """What has to be known to read the table."""
        metric = self.sweep.report[0]
        spread = self.spread(metric)
        seeds = f"{'seed' if len(self.sweep.seeds) == 1 else 'mean ± standard deviation over seeds'} {', '.join(map(str, self.sweep.seeds))}"
        notes = [f"- {seeds}; Δ is to the row {markdown_cell(', '.join(self.sweep.compare_to))}"]
        if spread is None:
            notes.append("- a row has one seed: how much seeds differ is not known, and a small difference means nothing")
        else:
            notes.append(f"- one run's {metric} differs between seeds by {spread:.2f} (standard deviation, pooled over the rows); a Δ of less than {CERTAIN:g} standard errors is within the spread")
        notes += [f"- {markdown_cell(', '.join(row.labels))}, seed {seed}: failed: {one_line(why)}" for row in self.rows for seed, why in row.failed.items()]
        notes += [f"- {markdown_cell(', '.join(row.labels))}: seeds not run yet: {', '.join(map(str, row.unfinished))}" for row in self.rows if row.unfinished]
        return [*notes, *(f"- {name}" for name in self.machines)]

    def as_json(self) -> str:
        """Everything, each seed's values included."""
        sweep = self.sweep
        rows = [{**dataclasses.asdict(row), "options": sweep.changes(row.labels), "paper": sweep.paper.get(", ".join(row.labels))} for row in self.rows]
        head = {"title": sweep.title, "sweep": sweep.file.name, "size": sweep.size, "base": sweep.base.name, "axes": list(sweep.axes), "seeds": sweep.seeds, "compare_to": sweep.compare_to}
        return json.dumps({**head, "machines": self.machines, "rows": rows}, indent=1)

    def as_csv(self) -> str:
        """One line a row: labels, mean and standard deviation of each metric, difference, cost."""
        metrics, text = self.sweep.report, io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        pairs = [name for metric in metrics for name in (metric, f"{metric} sd")]
        writer.writerow([*self.sweep.axes, "seeds", *pairs, f"difference in {metrics[0]}", "parameters", "images per second", "peak memory MiB"])
        for row in self.rows:
            figures = [value for metric in metrics for value in (row.mean(metric), row.sd(metric))]
            difference = self.difference(row, metrics[0])
            cost = [row.parameters, row.images_per_second, row.peak_memory_mib]
            writer.writerow([*row.labels, len(row.values[metrics[0]]), *figures, difference[0] if difference else None, *cost])
        return text.getvalue()


def _heading(name: str) -> str:
    """Names of keys and metrics stay readable; what would end the cell is escaped."""
    return one_line(name).replace("|", r"\|")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def collect(sweep: Sweep, folders: list[Path]) -> SweepTable:
    """Read what the runs of a sweep have written.

    Args:
        sweep: the sweep.
        folders: as :func:`retina_plugin.ablation.run_sweep` returned them, in the order of ``sweep.runs``.
    """
    found = list(zip(sweep.runs, folders, strict=True))
    rows, machines = [], []
    for labels in sweep.rows:
        mine = [(run, folder) for run, folder in found if run.labels == labels]
        summaries = [json.loads((folder / SUMMARY).read_text()) for _, folder in mine if (folder / SUMMARY).exists()]
        boxes = [summary["results"].get("bbox", {}) for summary in summaries]
        failed = {run.seed: (folder / FAILED).read_text() for run, folder in mine if (folder / FAILED).exists()}
        unfinished = [run.seed for run, folder in mine if run.seed not in failed and not (folder / SUMMARY).exists()]
        values = {metric: [box[metric] for box in boxes if metric in box and not math.isnan(box[metric])] for metric in sweep.report}
        cost = [_mean([s[key] for s in summaries if s[key] is not None]) for key in ("images_per_second", "peak_memory_mib")]
        rows.append(TableRow(labels, values, summaries[0]["parameters"] if summaries else None, *cost, failed, unfinished))
        machines += [f"{s['machine']}, {s['precision']}" for s in summaries]
    return SweepTable(sweep, rows, list(dict.fromkeys(machines)))


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None
