"""``retina train``: what ``train_net.py`` does."""

import argparse

from retina_plugin.arguments import Parser, argument_parser


def build_parser(prog: str) -> Parser:
    """Return the parser of ``train_net.py`` under the name of this command."""
    return argument_parser(prog)


def run(args: argparse.Namespace) -> int:
    """Train."""
    from retina_plugin.engine import run as train

    train(args)
    return 0
