"""``retina plan``: plan a training from the data, and write it as a config."""

import argparse

from retina_plugin.arguments import add_set_option

EXAMPLE = "retina plan pets --minutes 12 --output pets.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "data", help="a folder, a file of annotations, a dataset card, or the name of a card in datasets/"
    )
    parser.add_argument(
        "--data-format",
        metavar="FORMAT",
        help="coco, voc, yolo, csv, labelme, via or cvat; needed only if several or none are recognised",
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="how long the training may take; measured here")
    parser.add_argument(
        "--epochs", type=float, metavar="N", help="passes over the training images, in place of minutes"
    )
    parser.add_argument("--memory", type=float, metavar="GIB", help="how much memory a step may take; measured here")
    add_set_option(parser, "a config key and its value, which the plan does not change; may be repeated")
    parser.add_argument("--output", metavar="FILE", help="config file to write; without it, the plan is only printed")
    parser.add_argument("--json", metavar="FILE", help="file for the facts and the choices as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the plan, and write it."""
    import os
    from pathlib import Path

    from retina_plugin.data.account import account_of
    from retina_plugin.engine.data_argument import FINETUNE, load_card, options_for, plan_of
    from retina_plugin.paths import shipped
    from retina_plugin.plan.budget import Budget

    for name in ("minutes", "epochs", "memory"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"--{name} must be above 0; got {value:g}")
    if args.minutes and args.epochs:
        raise ValueError("--minutes and --epochs both say how long to train: give one of them")
    card, _, results = load_card(args.data, args.data_format)
    memory = round(args.memory * 2**30) if args.memory else None
    budget = Budget(minutes=args.minutes, epochs=args.epochs, memory=memory)
    plan = plan_of(card, results, opts=args.set, budget=budget)
    print(f"{args.data}: {card.format}, card {card.file}")
    print(account_of(card, results).text())
    print(f"\n{plan.table()}")
    if args.json:
        Path(args.json).write_text(plan.json() + "\n", encoding="utf-8")
    if args.output:
        base = shipped(FINETUNE)
        folder = Path(args.output).resolve().parent
        path = os.path.relpath(base, folder) if base.is_relative_to(Path.cwd()) else str(base)
        words = [*options_for(card), *map(str, args.set)]
        more = dict(zip(words[0::2], map(_value, words[1::2]), strict=True))
        Path(args.output).write_text(plan.config(path, more), encoding="utf-8")
        print(f"\nto train: retina train --config-file {args.output}")
    return 0


def _value(word: str) -> object:
    """Return a value of the command line as Python has it; a word that is no literal stays a word."""
    import ast

    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
