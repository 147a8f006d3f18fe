"""``retina <subcommand>``."""

import argparse
import difflib
import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import retina_plugin
from retina_plugin.arguments import Parser
from retina_plugin.version import __version__

SUBCOMMANDS = {
    "train": "train on a folder of images and annotations, or from a config",
    "evaluate": "evaluate a checkpoint",
    "predict": "detect objects in images, folders and videos",
    "export": "write ONNX, OpenVINO or TorchScript, proven equal to the checkpoint",
    "serve": "answer over HTTP, with a page to drop an image on",
    "analyze": "show what a detector gets right and wrong, and what it costs",
    "compare": "compare two detectors on the same images",
    "data": "check, convert, describe and preview a dataset",
    "plan": "plan a training from the data and a budget, with reasons, as a config",
    "ablate": "run a sweep of configs and make its table",
    "tune": "search for values of a few keys by trainings, with Optuna",
    "keys": "list the config keys with default, allowed values and meaning",
    "describe": "count a model's parameters and operations; list its levels and anchors",
    "find-lr": "search for a learning rate",
    "report": "rewrite the HTML page of a run",
    "debug": "repeat the step in which a training diverged",
    "explain-focal": "show what the focal loss does (figures 1 and 4 of the paper)",
    "bench": "compare time and memory with Detectron2, torchvision and pycocotools",
    "quickstart": "train, evaluate and predict on the bundled digits",
    "doctor": "show what is installed, and how to fix what is broken",
}
"""Each is a module of this package with ``EXAMPLE``, ``add_arguments(parser)`` and ``run(args) -> int``.

A module may have its own ``build_parser(prog)`` in place of ``add_arguments``."""

WITHOUT_IMPORTS = ("doctor", "explain-focal", "bench", "train", "evaluate")
"""Subcommands without the option --import of this module: they use no variants, or bring the option themselves."""

EXIT_CODES = """exit codes: 0 success; 1 the command ran and found errors (data check, predict, ablate, doctor), or
a bug; 2 a mistake that you can fix, named in the last line; 3 losses or weights that are not finite; 75 stopped by a
signal after a checkpoint was written

retina SUBCOMMAND --help shows the options of a subcommand and an example."""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run a subcommand.

    Returns:
        The exit code, see :data:`EXIT_CODES`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # Only the chosen subcommand is imported: `retina doctor` has to run where torch or detectron2 is missing.
    at = next((i for i, word in enumerate(words) if not word.startswith("-")), len(words))
    if at == len(words) or words[:at]:
        return _main_options(words)
    if words[at] not in SUBCOMMANDS:
        near = difflib.get_close_matches(words[at], SUBCOMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(SUBCOMMANDS)}"
        print(f"error: {words[at]!r} is not a subcommand{hint}", file=sys.stderr)
        return 2
    name = words[at]
    args = parser_of(name).parse_args(words[at + 1 :])
    run = _module(name).run
    if name == "doctor":
        return run(args)
    from retina_plugin.engine.ending import exit_code

    if not getattr(_module(name), "needs_torch", lambda args: True)(args):
        return exit_code(lambda: run(args))
    try:
        retina_plugin.fill_registries()
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return exit_code(lambda: _import_and_run(run, args))


def parser_of(name: str) -> Parser:
    """Return the parser of a subcommand."""
    module, prog = _module(name), f"retina {name}"
    if hasattr(module, "build_parser"):
        return module.build_parser(prog)
    parser = Parser(prog=prog, description=f"{SUBCOMMANDS[name].capitalize()}.", epilog=f"example:\n  {module.EXAMPLE}")
    module.add_arguments(parser)
    if name not in WITHOUT_IMPORTS:
        add_import_option(parser)
    return parser


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--import MODULE``."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module that registers variants of your own; may be repeated",
    )


def _main_options(words: list[str]) -> int:
    """Handle a command line that does not begin with a subcommand."""
    parser = Parser(prog="retina", description="RetinaNet as a plugin of Detectron2.", epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"retina_plugin {__version__}")
    parser.add_argument("--print-completion", metavar="SHELL", help="print the completion script of bash, zsh or tcsh")
    parsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", title="subcommands")
    for name, text in SUBCOMMANDS.items():
        parsers.add_parser(name, help=text, add_help=False)
    args = parser.parse_args(words)
    if args.print_completion:
        return _print_completion(args.print_completion)
    if args.subcommand:  # after an option that stands before it and is none of a subcommand
        return main([args.subcommand, *words[words.index(args.subcommand) + 1 :]])
    parser.print_help(sys.stderr)
    print("error: give a subcommand", file=sys.stderr)
    return 2


def _print_completion(shell: str) -> int:
    """Print a completion script, made by shtab from the parsers."""
    try:
        import shtab
    except ModuleNotFoundError:
        print("error: completion needs shtab: pip install 'retina-plugin[completion]'", file=sys.stderr)
        return 2
    if shell not in shtab.SUPPORTED_SHELLS:
        print(f"error: --print-completion takes {', '.join(shtab.SUPPORTED_SHELLS)}; got {shell}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(prog="retina")
    parser.add_argument("--version", action="store_true", help="show the version")
    parsers = parser.add_subparsers()
    for name, text in SUBCOMMANDS.items():
        parsers.add_parser(name, parents=[parser_of(name)], add_help=False, help=text, conflict_handler="resolve")
    print(shtab.complete(parser, shell=shell))
    return 0


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"retina_plugin.cli.{name.replace('-', '_')}")


def _import_and_run(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Import the modules of ``--import``, which add to the registries, and run the subcommand."""
    if imports := getattr(args, "imports", []):
        from retina_plugin.config import import_modules

        import_modules(imports, asked_by="--import")
    return run(args)
