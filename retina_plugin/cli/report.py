"""``retina report``: rewrite the HTML page of a run."""

import argparse

EXAMPLE = "retina report output/pets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("folder", help="OUTPUT_DIR of a run")


def run(args: argparse.Namespace) -> int:
    """Write report.html."""
    import retina_plugin  # noqa: F401  (registers the datasets)
    from retina_plugin.report.run_page import write_run_report

    print(write_run_report(args.folder))
    return 0
