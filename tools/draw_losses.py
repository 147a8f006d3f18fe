"""Draw the loss curves of runs together, and tabulate their AP by group.

    python tools/draw_losses.py --output curves.png bf16=output/a-1,output/a-2 fp32=output/b-1,output/b-2

Reads ``metrics.json`` and ``results.json`` of each folder.
"""

import argparse
import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt


def curve(folder: Path) -> tuple[list[int], list[float]]:
    """Return the iterations and total losses that a run logged."""
    records = [json.loads(line) for line in (folder / "metrics.json").read_text(encoding="utf-8").splitlines()]
    records = [record for record in records if "total_loss" in record]
    return [record["iteration"] for record in records], [record["total_loss"] for record in records]


def main() -> None:
    """Draw the curves and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="+", metavar="NAME=FOLDER,FOLDER", help="runs that differ in their seed only")
    parser.add_argument("--output", default="curves.png", help="file of the plot (default curves.png)")
    args = parser.parse_args()
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    print("| | AP | mean ± standard deviation |\n|---|---|---|")
    for i, group in enumerate(args.groups):
        name, _, folders = group.partition("=")
        figures = []
        for n, folder in enumerate(Path(x) for x in folders.split(",")):
            axes.plot(*curve(folder), color=f"C{i}", linewidth=1, label=None if n else name)
            figures.append(json.loads((folder / "results.json").read_text(encoding="utf-8"))["bbox"]["AP"])
        spread = statistics.stdev(figures) if len(figures) > 1 else 0.0
        print(f"| {name} | {', '.join(f'{x:.2f}' for x in figures)} | {statistics.mean(figures):.2f} ± {spread:.2f} |")
    axes.set_xlabel("iteration")
    axes.set_ylabel("total loss")
    axes.set_yscale("log")
    axes.legend()
    figure.savefig(args.output, dpi=120)


if __name__ == "__main__":
    main()
