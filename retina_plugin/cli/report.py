"""``retina report``: the page of a run, written anew."""

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand."""
    parser.add_argument("folder", help="OUTPUT_DIR of a run")


def run(args: argparse.Namespace) -> int:
    """Write report.html; 2 if the folder holds no run."""
    import retina_plugin  # noqa: F401  (registers the datasets)
    from retina_plugin.report.run import write_run_report

    try:
        print(write_run_report(args.folder))
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
