"""``retina keys``: what can be set in a config, with default, allowed values and meaning."""

import argparse
import sys
from pathlib import Path

EXAMPLE = "retina keys EPOCHS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "word",
        nargs="?",
        default="",
        help="show the keys that have it in their name or meaning, such as EPOCHS or anchor (default: all)",
    )
    parser.add_argument("--write", metavar="FILE", help="write the page of all keys, such as docs/keys.md")


def run(args: argparse.Namespace) -> int:
    """Print the keys, or write the page; 2 if no key has the word."""
    import retina_plugin  # noqa: F401  (fills the registries, whose names are shown)
    from retina_plugin.config import known_keys, nearest
    from retina_plugin.config.page import keys_help, keys_page

    if args.write:
        Path(args.write).write_text(keys_page(), encoding="utf-8")
        print(args.write)
        return 0
    text = keys_help(args.word)
    if not text:
        near = nearest(args.word, known_keys())
        print(
            f"error: no key has {args.word!r} in its name or meaning" + (f"; did you mean {near}?" if near else ""),
            file=sys.stderr,
        )
        return 2
    print(text)
    return 0
