"""``retina ablate``: a sweep file in, runs and a table out."""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from retina_plugin.arguments import add_set_option

EXAMPLE = "retina ablate configs/ablations/table_1b.yaml --ray --set SOLVER.MAX_ITER=200"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("sweep", help="a YAML file, such as configs/ablations/table_1b.yaml")
    parser.add_argument(
        "--size", default="", help="which of the file's sizes, such as reduced or paper (default: the first)"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="the rows that have one of these texts in their labels, and the row that they are compared to",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="where the runs and the table go; finished runs are not repeated (default: output/ablations/SWEEP-SIZE)",
    )
    parser.add_argument("--list", action="store_true", help="show the runs and how their configs differ, and run none")
    parser.add_argument("--num-gpus", type=int, default=0, metavar="N", help="GPUs per run (default: one, or the CPU)")
    parser.add_argument(
        "--ray", action="store_true", help="run as many at once as fit, through Ray (pip install 'retina-plugin[ray]')"
    )
    parser.add_argument(
        "--ray-address", metavar="ADDRESS", help="use this Ray cluster, which shares the output folder; such as auto"
    )
    parser.add_argument(
        "--cpus-per-run", type=float, default=1, metavar="N", help="with --ray: processor cores per run"
    )
    add_set_option(parser, "a config key and its value, for every run; may be repeated")


def run(args: argparse.Namespace) -> int:
    """Run what is missing, print and write the table; 1 if a run failed, 2 for a mistake in the sweep."""
    import torch

    from retina_plugin.ablation import collect, load_sweep, run_sweep
    from retina_plugin.ablation.plot import draw
    from retina_plugin.ablation.runner import on_ray
    from retina_plugin.config.files import Setting, read_settings
    from retina_plugin.config.load import modules_of

    try:
        options = {key: _value(value) for key, value in zip(args.set[0::2], args.set[1::2], strict=True)}
        sweep = load_sweep(args.sweep, args.size, options, args.only)
        if args.imports:  # the runs have to import what this process has imported
            modules = modules_of(
                {
                    **read_settings(sweep.base),
                    **({"IMPORTS": Setting(sweep.options["IMPORTS"], "")} if "IMPORTS" in sweep.options else {}),
                }
            )
            sweep.options["IMPORTS"] = list(dict.fromkeys([*modules, *args.imports]))
        if args.list:
            sweep.check()
            for one in sweep.runs:
                print(one.name(tuple(sweep.axes)), " ".join(f"{key} {value}" for key, value in one.options.items()))
            return 0
        parallel = args.ray or args.ray_address
        gpus = args.num_gpus or int(torch.cuda.is_available())  # Ray hides the GPUs from a run that asks for none
        executor = (
            on_ray(cpus_per_run=args.cpus_per_run, gpus_per_run=gpus, address=args.ray_address) if parallel else None
        )
        output = Path(args.output or f"output/ablations/{sweep.name}")
        folders = run_sweep(sweep, output, executor=executor, num_gpus=args.num_gpus)
    except (FileNotFoundError, ValueError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = collect(sweep, folders)
    text = f"# {sweep.title}\n\n{_origin(args)}\n\n{table.markdown()}"
    (output / "table.md").write_text(text, encoding="utf-8")
    (output / "table.csv").write_text(table.as_csv(), encoding="utf-8")
    (output / "table.json").write_text(table.as_json(), encoding="utf-8")
    draw(table, output / "table.png")
    print(f"\n{text}\n{output}: table.md, table.csv, table.json, table.png")
    return int(any(row.failed for row in table.rows))


def _value(word: str) -> object:
    """A word of the command line as YAML reads it; what YAML takes for nothing, or cannot read, is the word itself."""
    try:
        value = yaml.safe_load(word)
    except yaml.YAMLError:
        return word
    return word if value is None else value


def _origin(args: argparse.Namespace) -> str:
    """The command that made a table, and the commit of the repository it ran in, if that is one."""
    words = [
        "retina",
        "ablate",
        args.sweep,
        *(["--size", args.size] if args.size else []),
        *(["--only", *args.only] if args.only else []),
        *(word for name in args.imports for word in ("--import", name)),
        *(word for pair in zip(args.set[0::2], args.set[1::2], strict=True) for word in ("--set", "=".join(pair))),
    ]
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return f"`{shlex.join(words)}`" + (f", commit {commit}" if commit else "")
