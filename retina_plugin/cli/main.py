"""``retina <subcommand>``."""

import argparse
import importlib

SUBCOMMANDS = {
    "ablate": "run a sweep of configs and make its table",
    "bench": "time and memory against Detectron2, torchvision and pycocotools",
    "data": "look at a dataset: check, convert, stats, anchors, preview",
    "doctor": "what is installed, and how to mend what is wrong",
    "explain-focal": "the focal loss in numbers and pictures (figures 1 and 4 of the paper)",
    "keys": "what can be set in a config: default, allowed values, meaning",
    "quickstart": "train, evaluate and predict on the bundled digits",
    "report": "write the page of a run anew, from its folder",
}
"""Each is a module of this package with ``add_arguments(parser)`` and ``run(args) -> int``."""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run a subcommand; returns its exit code."""
    parser = argparse.ArgumentParser(prog="retina", description="RetinaNet as a plugin of Detectron2")
    parsers = parser.add_subparsers(dest="subcommand", required=True, metavar="subcommand")
    for name, text in SUBCOMMANDS.items():
        parsers.add_parser(name, help=text, description=text)
    known, rest = parser.parse_known_args(argv)
    # Only the chosen one is imported: `retina doctor` has to run where torch or detectron2 is missing.
    module = importlib.import_module(f"retina_plugin.cli.{known.subcommand.replace('-', '_')}")
    subparser = parsers.choices[known.subcommand]
    module.add_arguments(subparser)
    return module.run(subparser.parse_args(rest))
