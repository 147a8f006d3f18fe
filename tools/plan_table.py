"""Print the tables of docs/plan.md from what tools/compare_plans.py measured, and draw its learning curve.

    python tools/plan_table.py [docs/plan/runs.json] [--curve docs/plan/curve.png --data bccd --all 205]

Rows are compared with the plan by Welch's t: the 95 % interval of the difference of the means over seeds.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
from scipy import stats

NAMES = {"plan": "plan", "fixed": "fixed recipe", "detectron2": "Detectron2's RetinaNet"}
METRICS = ("AP", "AP50", "APs")


def shown(values: list[float]) -> str:
    """Return mean and standard deviation as text; -1, COCO's sign for no such objects, as a dash."""
    if not values or min(values) < 0:
        return "-"
    return f"{statistics.fmean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def advantage(plan: list[float], other: list[float]) -> str:
    """Return how much better the plan is, with the 95 % interval if both have two seeds, as text."""
    if not plan or not other:
        return ""
    text = f"{statistics.fmean(plan) - statistics.fmean(other):+.1f}"
    if min(len(plan), len(other)) < 2 or not statistics.variance(plan) + statistics.variance(other):
        return text
    low, high = stats.ttest_ind(plan, other, equal_var=False).confidence_interval()
    return f"{text} ({low:+.1f} to {high:+.1f})"


def table(runs: list[dict], split: str) -> str:
    """Return the comparison of all runs that have a split, as Markdown."""
    groups: dict[tuple, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if split in run:
            groups[run["data"], run["images"], run["minutes"]][run["side"]].append(run)
    lines = [
        f"| data ({split}) | minutes | side | took | AP | AP50 | APs | Δ AP of the plan | steps |",
        f"|{'---|' * 9}",
    ]
    for (data, images, minutes), sides in groups.items():
        plan = [run[split]["AP"] for run in sides.get("plan", ())]
        for side, of in sorted(sides.items(), key=lambda item: list(NAMES).index(item[0])):
            note = "" if side == "plan" else advantage(plan, [run[split]["AP"] for run in of])
            name = f"{data}, {images} images" if images else data
            cells = [shown([run[split][metric] for run in of]) for metric in METRICS]
            steps = f"{statistics.fmean(run['steps'] for run in of):,.0f}"
            took = f"{statistics.fmean(run['took'] for run in of):.1f}"
            lines.append(f"| {name} | {minutes:g} | {NAMES[side]} | {took} | {' | '.join(cells)} | {note} | {steps} |")
    return "\n".join(lines)


def draw_curve(runs: list[dict], file: Path, *, data: str, images: int) -> None:
    """Draw AP on the test split of a dataset against the number of training images, which is ``images`` for all."""
    figure, axes = plt.subplots(figsize=(6, 4))
    numbers = set()
    for side, name in NAMES.items():
        by_images = defaultdict(list)
        for run in runs:
            if run["data"] == data and run["side"] == side and "test" in run:
                by_images[run["images"] or images].append(run["test"]["AP"])
        numbers |= set(by_images)
        if len(by_images) > 1:
            x = sorted(by_images)
            means = [statistics.fmean(by_images[n]) for n in x]
            spread = [statistics.stdev(by_images[n]) if len(by_images[n]) > 1 else 0 for n in x]
            axes.errorbar(x, means, spread, marker="o", capsize=3, label=name)
    axes.set(xlabel="training images", ylabel="AP on the test split", xscale="log", title=data)
    axes.set_xticks(sorted(numbers), [str(n) for n in sorted(numbers)])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the tables, and draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", default="docs/plan/runs.json")
    parser.add_argument("--curve", metavar="FILE", help="picture to write")
    parser.add_argument("--data", default="bccd", help="dataset of the picture")
    parser.add_argument("--all", type=int, default=205, help="its training images")
    args = parser.parse_args()
    runs = json.loads(Path(args.runs).read_text(encoding="utf-8"))
    for split in ("val", "test"):
        print(table(runs, split), end="\n\n")
    if args.curve:
        draw_curve(runs, Path(args.curve), data=args.data, images=args.all)


if __name__ == "__main__":
    main()
