"""``retina bench``: the plugin against Detectron2's and torchvision's RetinaNet and pycocotools, side by side."""

import argparse
from pathlib import Path

ROUNDS = 5

EXAMPLE = "retina bench --cases train_step --rounds 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "--cases",
        nargs="+",
        metavar="CASE",
        help="some of them only; without, all (about twenty minutes on two CPU cores)",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timings of each implementation, alternating")
    parser.add_argument(
        "--no-memory", action="store_true", help="time only: memory takes a fresh process per implementation"
    )
    parser.add_argument("--output", default="output/bench", help="folder for bench.json, bench.md and bench.png")


def run(args: argparse.Namespace) -> int:
    """Measure, print as it goes, and write the table."""
    import torch

    from retina_plugin.bench.benchmarks import CASES, DEFAULT
    from retina_plugin.bench.flops import matmul_ratio, share_of_matmul
    from retina_plugin.bench.measure import alternate, extra_memory_in_fresh_process, median_and_spread
    from retina_plugin.bench.results import Row, table, write

    names = args.cases or list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        raise ValueError(f"no such case: {', '.join(unknown)}; known: {', '.join(CASES)}")
    if args.rounds < 1:
        raise ValueError(f"--rounds must be at least 1; got {args.rounds}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows: list[Row] = []
    memory = "memory in a fresh process, above what was allocated before"
    notes = [f"medians of {args.rounds} rounds, implementations in turns; {memory}"]
    for name in names:
        case = CASES[name]
        works = {implementation: prepare(device) for implementation, prepare in case.implementations.items()}
        seconds = alternate(works, rounds=args.rounds, device=device)
        del works
        new = [Row(name, case.title, implementation, values) for implementation, values in seconds.items()]
        for row in new:
            if not args.no_memory:
                row.extra_bytes = extra_memory_in_fresh_process(name, row.implementation, device)
        if name == "train_step":
            notes.append(share_of_matmul(median_and_spread(seconds[DEFAULT])[0], device))
        if name == "predict":
            notes.append(matmul_ratio(device))
        rows += new
        print(table(new, []), flush=True)
        text = write(rows, notes, Path(args.output))  # after every case: what is measured is not lost
    print(text)
    return 0
