"""Results of an evaluation as a table and as JSON."""

import json
import math
from pathlib import Path

from retina_plugin.names import markdown_cell, one_line

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve metrics, in percent: AP averaged over IoU 0.50-0.95, at 0.50, at 0.75; of boxes with an area below 32²,
up to 96², above; average recall with 1, 10, 100 detections per image; with 100, of small, medium, large boxes."""


def format_results(results: dict[str, dict[str, float]], title: str) -> str:
    """Format COCO's metrics as a Markdown table, and below it the AP of every class.

    Args:
        results: as ``COCOEvaluator`` returns them: {"bbox": {"AP": percent, ..., "AP-<class>": percent}}.
        title: heading of the table, one line.

    Example:
        >>> print(format_results({"bbox": {"AP": 50.0, "AP50": 80.0, "AP-cat": 50.0}}, "val"))
        # val
        <BLANKLINE>
        | AP | AP50 |
        |---|---|
        | 50.00 | 80.00 |
        <BLANKLINE>
        | class | AP |
        |---|---|
        | cat | 50.00 |
        <BLANKLINE>
    """
    box = results.get("bbox", {})
    names = [name for name in METRICS if name in box]
    lines = [
        f"# {one_line(title)}",
        "",
        f"| {' | '.join(names)} |",
        "|---" * len(names) + "|",
        f"| {' | '.join(_percent(box[n]) for n in names)} |",
        "",
    ]
    threshold = results.get("threshold", {})
    if threshold:
        found = f"precision {threshold['precision']:.1f}, recall {threshold['recall']:.1f}"
        lines += [
            f"Best F1 at IoU 0.5: {threshold['F1']:.1f}, with a minimum score of {threshold['score']:.2f} ({found}).",
            "",
        ]
    classes = {name.removeprefix("AP-"): value for name, value in box.items() if name.startswith("AP-")}
    if classes:
        lines += ["| class | AP | score with the best F1 |" if threshold else "| class | AP |"]
        lines += ["|---|---|---|" if threshold else "|---|---|"]
        for name, value in classes.items():
            cells = [markdown_cell(name), _percent(value)]
            if threshold:
                cells.append(f"{threshold[f'score-{name}']:.2f}" if f"score-{name}" in threshold else "")
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _percent(value: float) -> str:
    """Return two decimals; NaN means that no box of the ground truth belongs to the metric."""
    return "n/a (no ground truth)" if math.isnan(value) else f"{value:.2f}"


def write_results(results: dict[str, dict[str, float]], folder: str, title: str) -> Path:
    """Write ``results.json`` and ``coco_table.md`` to ``folder``; return the path of the table."""
    (Path(folder) / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    table = Path(folder) / "coco_table.md"
    table.write_text(format_results(results, title), encoding="utf-8")
    return table
