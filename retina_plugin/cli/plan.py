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
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training images, in place of minutes")
    parser.add_argument("--memory", type=float, metavar="GIB", help="how much memory a step may take; measured here")
    add_set_option(parser, "a config key and its value, which the plan does not change; may be repeated")
    parser.add_argument("--output", metavar="FILE", help="config file to write; without it, the plan is only printed")
    parser.add_argument("--json", metavar="FILE", help="file for the facts and the choices as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the plan, and write it."""
    import os
    from pathlib import Path

    from retina_plugin.config.load import literal
    from retina_plugin.data.account import account_of
    from retina_plugin.data.catalog import card_folders
    from retina_plugin.engine.data_argument import FINETUNE, load_card, options_for, plan_of
    from retina_plugin.paths import shipped
    from retina_plugin.plan.budget import Budget

    for name in ("minutes", "epochs", "memory"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"--{name} must be above 0; got {value:g}")
    card, _, results = load_card(args.data, args.data_format)
    memory = round(args.memory * 2**30) if args.memory else None
    opts = [*args.set, *(["SOLVER.EPOCHS", str(args.epochs)] if args.epochs else [])]
    plan = plan_of(card, results, opts=opts, budget=Budget(minutes=args.minutes, memory=memory))
    print(f"{args.data}: {card.format}, card {card.file}")
    print(account_of(card, results).text())
    print(f"\n{plan.table()}")
    if args.json:
        Path(args.json).write_text(plan.json() + "\n", encoding="utf-8")
    if args.output:
        base = shipped(FINETUNE)
        folder = Path(args.output).resolve().parent
        is_near = base.is_relative_to(Path.cwd()) and folder.is_relative_to(Path.cwd())
        path = os.path.relpath(base, folder) if is_near else str(base)
        words = [*options_for(card), *map(str, opts)]
        more = dict(zip(words[0::2], map(literal, words[1::2]), strict=True))
        Path(args.output).write_text(plan.config(path, more), encoding="utf-8")
        # Cards in these folders are registered at every start; another one has to be named.
        known = any(card.file.resolve().parent == known.resolve() for known in card_folders())
        data = "" if known else f"--data {args.data} "
        print(f"\nto train: retina train {data}--config-file {args.output}")
    return 0
