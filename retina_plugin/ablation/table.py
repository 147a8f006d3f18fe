"""The table of a sweep: means over seeds, differences to one row, and what the paper has there."""

import csv
import dataclasses
import io
import json
import math
import statistics
from pathlib import Path

from retina_plugin.analysis.significance import ALPHA, Difference, Spread, differences, pooled_spread
from retina_plugin.ablation.sweep import Sweep
from retina_plugin.ablation.worker import FAILED
from retina_plugin.engine.summary import SUMMARY
from retina_plugin.names import markdown_cell, one_line


@dataclasses.dataclass(frozen=True)
class TableRow:
    """What the runs of one row gave.

    Attributes:
        labels: one of each axis.
        values: metric -> its values in percent, one of each finished seed; those that are no number (nan) are left out.
        parameters: of the model; None before a run is finished.
        images_per_second, peak_memory_mib: means over the runs, of training.
        failed: seed -> why.
        unfinished: seeds.
        nan: metric -> how many finished runs have no number there.
        absent: metrics that the evaluation of a finished run did not give.
    """

    labels: tuple[str, ...]
    values: dict[str, list[float]]
    parameters: int | None
    images_per_second: float | None
    peak_memory_mib: float | None
    failed: dict[int, str]
    unfinished: list[int]
    nan: dict[str, int] = dataclasses.field(default_factory=dict)
    absent: list[str] = dataclasses.field(default_factory=list)

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

    def spread(self, metric: str) -> Spread | None:
        """How much one run differs between seeds, see :func:`retina_plugin.analysis.significance.pooled_spread`."""
        return pooled_spread([row.values.get(metric, []) for row in self.rows])

    def differences(self, metric: str) -> dict[tuple[str, ...], Difference]:
        """Of every row that has been run to the row compared to, by labels."""
        return differences({row.labels: row.values.get(metric, []) for row in self.rows}, self.sweep.compare_to)

    def markdown(self) -> str:
        """The table, and below it what its columns are."""
        sweep, compared = self.sweep, self.sweep.report[0]
        found = self.differences(compared)
        published = [metric for metric in sweep.report if any(metric in values for values in sweep.paper.values())]
        header = [
            *sweep.axes,
            *sweep.report,
            f"Δ {compared}",
            "p",
            "parameters, M",
            "images/s",
            "memory, MiB",
            *(f"paper's {metric}" for metric in published),
        ]
        lines = [f"| {' | '.join(map(_heading, header))} |", "|---" * len(header) + "|"]
        for row in self.rows:
            paper = sweep.paper.get(", ".join(row.labels), {})
            cells = [
                *map(markdown_cell, row.labels),
                *(self._cell(row, metric) for metric in sweep.report),
                *self._difference(row, found.get(row.labels)),
                _number(row.parameters and row.parameters / 1e6, 2),
                _number(row.images_per_second, 1),
                _number(row.peak_memory_mib, 0),
                *(_number(paper.get(metric), 1) for metric in published),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, "", *self._notes(), ""])

    def _cell(self, row: TableRow, metric: str) -> str:
        """Mean and spread of a metric, or why there is none: "no such metric", "nan", "failed" and "not run" are four things."""
        mean, sd, nan = row.mean(metric), row.sd(metric), row.nan.get(metric, 0)
        if mean is None:
            return "no such metric" if metric in row.absent else "nan" if nan else "failed" if row.failed else "not run"
        return f"{mean:.1f}" + (f" ± {sd:.1f}" if sd is not None else "") + (f", {nan} nan" if nan else "")

    def _difference(self, row: TableRow, found: Difference | None) -> tuple[str, str]:
        """Δ and p as cells."""
        if row.labels == self.sweep.compare_to:
            return "base", ""
        if found is None:
            return "", ""
        value = (
            f"{round(found.value, 1) + 0.0:+.1f}"
            + {True: "", False: ", within the spread", None: ", no spread known"}[found.is_one]
        )
        return value, "" if found.p_holm is None else shown_p(found.p_holm)

    def _notes(self) -> list[str]:
        """What has to be known to read the table."""
        metric = self.sweep.report[0]
        spread = self.spread(metric)
        seeds = f"{'seed' if len(self.sweep.seeds) == 1 else 'mean ± standard deviation over seeds'} {', '.join(map(str, self.sweep.seeds))}"
        notes = [f"- {seeds}; Δ is to the row {markdown_cell(', '.join(self.sweep.compare_to))}"]
        if spread is None:
            notes.append(
                "- no row has two seeds that differ: how much seeds differ is not known, and a small Δ means nothing"
            )
        else:
            notes.append(
                f"- one run's {metric} differs between seeds by {spread.sd:.2f} (standard deviation, pooled over rows, {spread.freedom} degrees of freedom); p is that of Student's t, "
                f"two-sided, with Holm's correction for the number of rows; above {ALPHA:g} a Δ is within the spread"
            )
        notes += [
            f"- {markdown_cell(', '.join(row.labels))}, seed {seed}: failed: {one_line(why)}"
            for row in self.rows
            for seed, why in row.failed.items()
        ]
        notes += [
            f"- {markdown_cell(', '.join(row.labels))}: seeds not run yet: {', '.join(map(str, row.unfinished))}"
            for row in self.rows
            if row.unfinished
        ]
        return [*notes, *(f"- {name}" for name in self.machines)]

    def as_json(self) -> str:
        """Everything, each seed's values included; a number that there is none of is null."""
        sweep, metric = self.sweep, self.sweep.report[0]
        found, spread = self.differences(metric), self.spread(metric)
        rows = [
            {
                **dataclasses.asdict(row),
                "options": sweep.changes(row.labels),
                "paper": sweep.paper.get(", ".join(row.labels)),
                "difference": found[row.labels]._asdict() if row.labels in found else None,
            }
            for row in self.rows
        ]
        head = {
            "title": sweep.title,
            "sweep": sweep.file.name,
            "size": sweep.size,
            "base": sweep.base.name,
            "axes": list(sweep.axes),
            "seeds": sweep.seeds,
            "compare_to": sweep.compare_to,
        }
        compared = {"metric": metric, "spread": spread._asdict() if spread else None}
        return json.dumps(
            {**head, "compared": compared, "machines": self.machines, "rows": rows}, indent=1, allow_nan=False
        )

    def as_csv(self) -> str:
        """One line a row: labels, mean and standard deviation of each metric, difference with p, cost."""
        metrics, text = self.sweep.report, io.StringIO()
        found = self.differences(metrics[0])
        writer = csv.writer(text, lineterminator="\n")
        pairs = [name for metric in metrics for name in (metric, f"{metric} sd")]
        writer.writerow(
            [
                *self.sweep.axes,
                "seeds",
                *pairs,
                f"difference in {metrics[0]}",
                "p",
                "p by Holm",
                "parameters",
                "images per second",
                "peak memory MiB",
            ]
        )
        for row in self.rows:
            figures = [value for metric in metrics for value in (row.mean(metric), row.sd(metric))]
            cost = [row.parameters, row.images_per_second, row.peak_memory_mib]
            writer.writerow(
                [*row.labels, len(row.values[metrics[0]]), *figures, *found.get(row.labels, (None, None, None)), *cost]
            )
        return text.getvalue()


def shown_p(p: float) -> str:
    """A p value for people.

    Example:
        >>> shown_p(0.2345), shown_p(0.00001)
        ('0.23', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


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
    pairs = list(zip(sweep.runs, folders, strict=True))
    rows, machines = [], []
    for labels in sweep.rows:
        mine = [(run, folder) for run, folder in pairs if run.labels == labels]
        summaries = [
            json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
            for _, folder in mine
            if (folder / SUMMARY).exists()
        ]
        found_values = {
            metric: [value_of(summary["results"], metric) for summary in summaries] for metric in sweep.report
        }
        failed = {
            run.seed: (folder / FAILED).read_text(encoding="utf-8")
            for run, folder in mine
            if (folder / FAILED).exists()
        }
        unfinished = [run.seed for run, folder in mine if run.seed not in failed and not (folder / SUMMARY).exists()]
        values = {
            metric: [value for value in found if value is not None and not math.isnan(value)]
            for metric, found in found_values.items()
        }
        nan = {
            metric: count
            for metric, found in found_values.items()
            if (count := sum(value is not None and math.isnan(value) for value in found))
        }
        absent = [metric for metric, found in found_values.items() if None in found]
        cost = [
            _mean([s[key] for s in summaries if s[key] is not None]) for key in ("images_per_second", "peak_memory_mib")
        ]
        rows.append(
            TableRow(
                labels,
                values,
                summaries[0]["parameters"] if summaries else None,
                *cost,
                failed,
                unfinished,
                nan,
                absent,
            )
        )
        machines += [f"{s['machine']}, {s['precision']}" for s in summaries]
    return SweepTable(sweep, rows, list(dict.fromkeys(machines)))


def value_of(results: dict, metric: str) -> float | None:
    """A metric of a finished run, "AP" of the boxes or "task/AP" of another task; None if its evaluation did not give it.

    Example:
        >>> value_of({"bbox": {"AP": 40.0}, "segm": {"AP": 30.0}}, "segm/AP"), value_of({"bbox": {"AP": 40.0}}, "APxx")
        (30.0, None)
    """
    task, _, name = metric.rpartition("/")
    value = results.get(task or "bbox", {}).get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None
