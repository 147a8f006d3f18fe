"""The table of a sweep: means over seeds, differences from one row, and the paper's values."""

import csv
import dataclasses
import io
import json
import logging
import math
import statistics
from pathlib import Path

from retina_plugin.ablation.sweep import Run, Sweep
from retina_plugin.ablation.worker import FAILED
from retina_plugin.analysis.comparison import SAMPLES, paired_intervals
from retina_plugin.analysis.detections import Detections, read_detections
from retina_plugin.analysis.significance import ALPHA, Difference, Spread, differences, pooled_spread
from retina_plugin.engine.summary import SUMMARY
from retina_plugin.evaluation.rows import PREDICTIONS
from retina_plugin.names import markdown_cell, one_line

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TableRow:
    """Results of the runs of one row.

    Attributes:
        labels: one label per axis.
        values: metric -> values in percent, one per finished seed, without NaN.
        parameters: parameters of the model; None before a run is finished.
        images_per_second, peak_memory_mib: means over the runs, during training.
        failed: seed -> reason.
        unfinished: seeds that are not finished.
        nan: metric -> number of finished runs whose value is NaN.
        absent: metrics that the evaluation of a finished run did not report.
        interval: 95 % interval over images of the difference from the row compared to, in percent; None if unknown.
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
    interval: tuple[float, float] | None = None

    def mean(self, metric: str) -> float | None:
        """Return the mean over the seeds; None without a finished run."""
        return statistics.fmean(self.values[metric]) if self.values.get(metric) else None

    def sd(self, metric: str) -> float | None:
        """Return the standard deviation over the seeds; None for fewer than two."""
        return statistics.stdev(self.values[metric]) if len(self.values.get(metric, [])) > 1 else None


@dataclasses.dataclass(frozen=True)
class SweepTable:
    """All rows of a sweep.

    Attributes:
        sweep: the sweep.
        rows: the results, in the order of ``sweep.rows``.
        machines: machines of the runs.
    """

    sweep: Sweep
    rows: list[TableRow]
    machines: list[str]

    def spread(self, metric: str) -> Spread | None:
        """Return the spread over seeds, see :func:`retina_plugin.analysis.significance.pooled_spread`."""
        return pooled_spread([row.values.get(metric, []) for row in self.rows])

    def differences(self, metric: str) -> dict[tuple[str, ...], Difference]:
        """Return the difference of every row that has been run from the row compared to, by labels."""
        return differences({row.labels: row.values.get(metric, []) for row in self.rows}, self.sweep.compare_to)

    @property
    def has_intervals(self) -> bool:
        """Whether any row has an interval over images."""
        return any(row.interval is not None for row in self.rows)

    def markdown(self) -> str:
        """Return the table as Markdown, with notes that explain its columns."""
        sweep, compared = self.sweep, self.sweep.report[0]
        found = self.differences(compared)
        published = [metric for metric in sweep.report if any(metric in values for values in sweep.paper.values())]
        header = [
            *sweep.axes,
            *sweep.report,
            f"Δ {compared}",
            "p",
            *(["over images"] if self.has_intervals else []),
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
                *([_shown_interval(row.interval)] if self.has_intervals else []),
                _number(row.parameters and row.parameters / 1e6, 2),
                _number(row.images_per_second, 1),
                _number(row.peak_memory_mib, 0),
                *(_number(paper.get(metric), 1) for metric in published),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join([*lines, "", *self._notes(), ""])

    def _cell(self, row: TableRow, metric: str) -> str:
        """Return the mean and spread of a metric as a cell, or why there is none."""
        mean, sd, nan = row.mean(metric), row.sd(metric), row.nan.get(metric, 0)
        if mean is None:
            return _why_empty(row, metric)
        spread = "" if sd is None else f" ± {sd:.1f}"
        return f"{mean:.1f}{spread}" + (f", {nan} nan" if nan else "")

    def _difference(self, row: TableRow, found: Difference | None) -> tuple[str, str]:
        """Return Δ and p as cells."""
        if row.labels == self.sweep.compare_to:
            return "base", ""
        if found is None:
            return "", ""
        judgement = {True: "", False: ", within the spread", None: ", no spread known"}[found.is_one]
        value = f"{round(found.value, 1) + 0.0:+.1f}{judgement}"
        return value, "" if found.p_holm is None else shown_p(found.p_holm)

    def _notes(self) -> list[str]:
        """Return the notes that are needed to read the table."""
        metric = self.sweep.report[0]
        spread = self.spread(metric)
        values = "seed" if len(self.sweep.seeds) == 1 else "mean ± standard deviation over seeds"
        seeds = ", ".join(map(str, self.sweep.seeds))
        base = markdown_cell(", ".join(self.sweep.compare_to))
        notes = [f"- {values} {seeds}; Δ is relative to the row {base}"]
        if spread is None:
            notes.append(
                "- no row has two seeds that differ, so the spread over seeds is unknown and a small Δ means nothing"
            )
        else:
            notes.append(
                f"- the spread of {metric} over seeds is {spread.sd:.2f} (standard deviation, pooled over rows, "
                f"{spread.freedom} degrees of freedom); p is from Student's t test, two-sided, with Holm's correction "
                f"for the number of rows; above {ALPHA:g} a Δ is within the spread"
            )
        if self.has_intervals:
            notes.append(
                f"- over images: 95 % interval of Δ {metric} by paired bootstrap over the validation images, for the "
                "first seed of both rows; it tells how the two trained detectors differ on other images, not how "
                "other trainings would"
            )
        for row in self.rows:
            name = markdown_cell(", ".join(row.labels))
            notes += [f"- {name}, seed {seed}: failed: {one_line(why)}" for seed, why in row.failed.items()]
        for row in self.rows:
            if row.unfinished:
                name = markdown_cell(", ".join(row.labels))
                notes.append(f"- {name}: seeds not run yet: {', '.join(map(str, row.unfinished))}")
        return [*notes, *(f"- {name}" for name in self.machines)]

    def as_json(self) -> str:
        """Return everything as JSON, including the values of each seed; missing numbers are null."""
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
        """Return CSV with a line per row: labels, mean and standard deviation of each metric, difference, p, cost."""
        metrics, text = self.sweep.report, io.StringIO()
        found = self.differences(metrics[0])
        writer = csv.writer(text, lineterminator="\n")
        pairs = [name for metric in metrics for name in (metric, f"{metric} sd")]
        difference = [f"difference in {metrics[0]}", "p", "p by Holm", "low over images", "high over images"]
        cost_names = ["parameters", "images per second", "peak memory MiB"]
        writer.writerow([*self.sweep.axes, "seeds", *pairs, *difference, *cost_names])
        for row in self.rows:
            figures = [value for metric in metrics for value in (row.mean(metric), row.sd(metric))]
            cost = [row.parameters, row.images_per_second, row.peak_memory_mib]
            compared = found.get(row.labels, (None, None, None))
            limits = row.interval or (None, None)
            writer.writerow([*row.labels, len(row.values[metrics[0]]), *figures, *compared, *limits, *cost])
        return text.getvalue()


def shown_p(p: float) -> str:
    """Format a p value.

    Example:
        >>> shown_p(0.2345), shown_p(0.00001)
        ('0.23', '< 0.001')
    """
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _why_empty(row: TableRow, metric: str) -> str:
    """Return why a row has no value of a metric."""
    if metric in row.absent:
        return "no such metric"
    if row.nan.get(metric):
        return "nan"
    return "failed" if row.failed else "not run"


def _heading(name: str) -> str:
    """Return the name of a key or metric as a heading; unlike in a cell, only "|" is escaped."""
    return one_line(name).replace("|", r"\|")


def _number(value: float | None, digits: int) -> str:
    """Return a number with so many decimals; empty for None."""
    return "" if value is None else f"{value:,.{digits}f}"


def _shown_interval(limits: tuple[float, float] | None) -> str:
    """Return an interval as a cell; empty for None."""
    return "" if limits is None else f"{limits[0] + 0.0:+.1f} to {limits[1] + 0.0:+.1f}"


def collect(sweep: Sweep, folders: list[Path], *, samples: int = SAMPLES) -> SweepTable:
    """Read the results that the runs of a sweep have written.

    Args:
        sweep: the sweep.
        folders: as :func:`retina_plugin.ablation.run_sweep` returned them, in the order of ``sweep.runs``.
        samples: of the bootstrap over images; 0: no intervals.
    """
    pairs = list(zip(sweep.runs, folders, strict=True))
    rows, machines = [], []
    for labels in sweep.rows:
        of_row = {run.seed: folder for run, folder in pairs if run.labels == labels}
        finished = [folder / SUMMARY for folder in of_row.values() if (folder / SUMMARY).exists()]
        summaries = [json.loads(file.read_text(encoding="utf-8")) for file in finished]
        rows.append(_row(labels, of_row, summaries, sweep.report))
        machines += [f"{summary['machine']}, {summary['precision']}" for summary in summaries]
    if samples:
        rows = _with_intervals(rows, sweep, pairs, samples)
    return SweepTable(sweep, rows, list(dict.fromkeys(machines)))


def _with_intervals(rows: list[TableRow], sweep: Sweep, pairs: list[tuple[Run, Path]], samples: int) -> list[TableRow]:
    """Return the rows with intervals over images, where the detections of both runs are there.

    Evaluators other than COCO's write no detections.
    """
    detections = {
        (run.labels, run.seed): folder
        for run, folder in pairs
        if (folder / SUMMARY).exists() and (folder / PREDICTIONS).exists()
    }
    read: dict[Path, Detections] = {}
    found = []
    for row in rows:
        seed = next(
            (x for x in sweep.seeds if {(row.labels, x), (sweep.compare_to, x)} <= set(detections)),
            None,
        )
        if seed is None or row.labels == sweep.compare_to:
            found.append(row)
            continue
        base, this = detections[sweep.compare_to, seed], detections[row.labels, seed]
        try:
            for folder in (base, this):
                read[folder] = read.get(folder) or read_detections(folder)
            limits = paired_intervals(read[base], read[this], samples=samples).get(sweep.report[0])
        except ValueError as error:  # such as rows of different datasets
            logger.warning("%s: no interval over images: %s", ", ".join(row.labels), error)
            limits = None
        found.append(dataclasses.replace(row, interval=limits))
    return found


def _row(
    labels: tuple[str, ...], folders: dict[int, Path], summaries: list[dict], metrics: tuple[str, ...]
) -> TableRow:
    """Summarise the runs of one row.

    Args:
        labels: one label per axis.
        folders: seed -> folder of its run.
        summaries: contents of ``summary.json`` of the finished runs.
        metrics: metrics to report.
    """
    found = {metric: [value_of(summary["results"], metric) for summary in summaries] for metric in metrics}
    numbers = {metric: [value for value in values if value is not None] for metric, values in found.items()}
    nan = {metric: sum(math.isnan(value) for value in values) for metric, values in numbers.items()}
    reasons = {seed: folder / FAILED for seed, folder in folders.items() if (folder / FAILED).exists()}
    failed = {seed: file.read_text(encoding="utf-8") for seed, file in reasons.items()}
    return TableRow(
        labels=labels,
        values={metric: [value for value in values if not math.isnan(value)] for metric, values in numbers.items()},
        parameters=summaries[0]["parameters"] if summaries else None,
        images_per_second=_mean([x["images_per_second"] for x in summaries if x["images_per_second"] is not None]),
        peak_memory_mib=_mean([x["peak_memory_mib"] for x in summaries if x["peak_memory_mib"] is not None]),
        failed=failed,
        unfinished=[seed for seed, x in folders.items() if seed not in failed and not (x / SUMMARY).exists()],
        nan={metric: count for metric, count in nan.items() if count},
        absent=[metric for metric, values in found.items() if None in values],
    )


def value_of(results: dict, metric: str) -> float | None:
    """Return a metric of a finished run, "AP" of the boxes or "task/AP" of a different task; None if it is missing.

    Example:
        >>> value_of({"bbox": {"AP": 40.0}, "segm": {"AP": 30.0}}, "segm/AP"), value_of({"bbox": {"AP": 40.0}}, "APxx")
        (30.0, None)
    """
    task, _, name = metric.rpartition("/")
    value = results.get(task or "bbox", {}).get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mean(values: list[float]) -> float | None:
    """Return the mean; None without values."""
    return statistics.fmean(values) if values else None
