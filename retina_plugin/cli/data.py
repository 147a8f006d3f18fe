"""``retina data``: look at a dataset before training on it."""

import argparse
import logging
import sys
from pathlib import Path

ACTIONS = {
    "check": "report everything that is wrong with a dataset, and how to mend it",
    "convert": "write a dataset of any format as COCO JSON",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the subcommand and of its actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("data", help="a folder, a file of annotations, a dataset card, or the name of a card in datasets/")
        action.add_argument("--data-format", help="coco, voc, yolo, csv or labelme, if the folder has several or it is not recognised")
        if name == "check":
            action.add_argument("--fix", action="store_true", help="write a clean copy of the annotations and a list of what was changed")
            action.add_argument("--all", action="store_true", help="show every finding, not the first of each kind")
        action.add_argument("--output", help="folder to write to (default: <name>_clean or <name>_coco here)")


def run(args: argparse.Namespace) -> int:
    """Run the action; 2 where there is no dataset."""
    from retina_plugin.data.find import find_card

    try:
        card = find_card(args.data, format=args.data_format)
        return {"check": _check, "convert": _convert}[args.action](card, args)
    except (FileNotFoundError, FileExistsError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _check(card, args: argparse.Namespace) -> int:
    """Report; 1 if there are errors."""
    from retina_plugin.data.check import check_card
    from retina_plugin.data.mend import mended, write_coco

    logging.getLogger("retina_plugin.data.card").setLevel(logging.ERROR)  # the report says it all
    report = check_card(card, progress=sys.stderr.isatty())
    print(report.text(most=0 if args.all else 20))
    if args.fix:
        records, changes = mended(report)
        folder = Path(args.output or f"{card.name}_clean")
        written = write_coco(card, records, folder, name=f"{card.name}_clean")
        (folder / "changes.txt").write_text("".join(f"{change}\n" for change in changes))
        print(f"\n{len(changes)} changes, see {folder / 'changes.txt'}; the clean copy: {written}")
    return int(report.failed)


def _convert(card, args: argparse.Namespace) -> int:
    """Write COCO JSON; what cannot be used is named and left out."""
    from retina_plugin.data.mend import write_coco

    records = {split: card.load(split) for split in card.splits}
    written = write_coco(card, records, args.output or f"{card.name}_coco", name=f"{card.name}_coco")
    for split, found in records.items():
        print(f"{split}: {len(found)} images, {sum(len(record['annotations']) for record in found)} boxes")
    print(written)
    return 0
