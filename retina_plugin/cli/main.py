"""``retina <subcommand>``."""

import argparse
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

SUBCOMMANDS = {
    "ablate": "run a sweep of configs and make its table",
    "bench": "time and memory against Detectron2, torchvision and pycocotools",
    "debug": "run the step again in which a training diverged",
    "data": "look at a dataset: check, convert, stats, anchors, preview",
    "describe": "parameters, operations, levels and anchors of a config",
    "doctor": "what is installed, and how to mend what is wrong",
    "explain-focal": "the focal loss in numbers and pictures (figures 1 and 4 of the paper)",
    "find-lr": "the loss while the learning rate rises",
    "keys": "what can be set in a config: default, allowed values, meaning",
    "quickstart": "train, evaluate and predict on the bundled digits",
    "report": "write the page of a run anew, from its folder",
}
"""Each is a module of this package with ``add_arguments(parser)`` and ``run(args) -> int``."""

WITHOUT_IMPORTS = ("doctor", "explain-focal", "quickstart", "bench")
"""Subcommands that have nothing to do with variants of one's own."""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run a subcommand; returns its exit code: 2, and one line, for what the user can mend."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="retina", description="RetinaNet as a plugin of Detectron2")
    parser.add_argument("--version", action="store_true", help="the version of the plugin")
    parsers = parser.add_subparsers(dest="subcommand", metavar="subcommand")
    # Only the chosen one is imported: `retina doctor` has to run where torch or detectron2 is missing.
    chosen = next((word for word in argv if not word.startswith("-")), None)
    run = None
    for name, text in SUBCOMMANDS.items():
        subparser = parsers.add_parser(name, help=text, description=text)
        if name == chosen:
            module = importlib.import_module(f"retina_plugin.cli.{name.replace('-', '_')}")
            module.add_arguments(subparser)
            if name not in WITHOUT_IMPORTS:
                subparser.add_argument(
                    "--import",
                    dest="imports",
                    action="append",
                    default=[],
                    metavar="MODULE",
                    help="import a module that registers variants of your own; may be repeated",
                )
            run = module.run
    args = parser.parse_args(argv)
    if args.version:
        print(f"retina_plugin {version()}")
        return 0
    if run is None:
        parser.print_usage(sys.stderr)
        print(f"error: give a subcommand: {', '.join(SUBCOMMANDS)}; --help says what each does", file=sys.stderr)
        return 2
    if chosen == "doctor":
        return run(args)
    from retina_plugin.engine.ending import exit_code

    return exit_code(lambda: _run(run, args))


def _run(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    if imports := getattr(args, "imports", []):
        import retina_plugin  # noqa: F401  (fills the registries, which the modules add to)
        from retina_plugin.config import import_modules

        import_modules(imports, asked_by="--import")
    return run(args)


def version() -> str:
    """Of the plugin, without its parts being imported, which may not work here."""
    text = (Path(__file__).parents[1] / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)[1]
