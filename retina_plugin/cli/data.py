"""``retina data``: look at a dataset before training on it."""

import argparse
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from retina_plugin.arguments import add_set_option
from retina_plugin.cli import data_next, data_review

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from retina_plugin.analysis.anchor_layout import AnchorLayout
    from retina_plugin.data.card import DatasetCard

WITHOUT_DATA = ("DATASETS.TRAIN", (), "DATASETS.TEST", (), "TEST.EARLY_STOP_PATIENCE", 0)
"""Options that let a config load without its datasets."""

ANCHOR_COLUMNS = (
    "anchors",
    "SCALE",
    "SCALES_PER_OCTAVE",
    "ASPECT_RATIOS",
    "LEVELS",
    "boxes with IoU >= 0.5",
    "mean best IoU",
    "anchors compared to now",
)

EXAMPLE = "retina data check FOLDER; retina data check --help shows the options"

ACTIONS = {
    "check": ("list everything that is wrong with a dataset, and how to fix it", "retina data check pets --fix"),
    "convert": ("write a dataset of any format as COCO, YOLO, VOC or CSV", "retina data convert pets --to yolo"),
    "stats": (
        "write an HTML page: images with boxes, classes, sizes and shapes at network resolution, positions",
        "retina data stats pets --output pets.html",
    ),
    "anchors": (
        "show which boxes get an anchor, and search for anchors that suit them better",
        "retina data anchors pets --set INPUT.MIN_SIZE_TEST=640",
    ),
    "preview": ("draw training images after augmentation", "retina data preview pets --count 6"),
}
"""Action -> what it does, and an example."""

WITH_MODEL = {
    "review": ("find mistakes in the annotations, as a page to accept or reject corrections on", data_review),
    "next": ("choose the images that are worth labelling next, with labels to correct", data_next),
}
"""Actions that need a detector -> what they do, and their module."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand and of its actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")
    for name, (text, example) in ACTIONS.items():
        action = actions.add_parser(
            name, help=text, description=f"{text.capitalize()}.", epilog=f"example:\n  {example}"
        )
        action.add_argument(
            "data", help="a folder, a file of annotations, a dataset card, or the name of a card in datasets/"
        )
        action.add_argument(
            "--data-format",
            metavar="FORMAT",
            help="coco, voc, yolo, csv, labelme, via or cvat; needed only if several or none are recognised",
        )
        if name == "convert":
            action.add_argument("--to", default="coco", metavar="FORMAT", help="coco, yolo, voc or csv")
        if name == "check":
            action.add_argument("--fix", action="store_true", help="write a clean copy and a list of what was changed")
            action.add_argument("--all", action="store_true", help="show every finding, not the first of each kind")
        if name in ("check", "stats", "anchors", "preview"):
            action.add_argument(
                "--config-file",
                metavar="FILE",
                help="config whose sizes, anchors and augmentations count (default: configs/finetune.yaml)",
            )
            add_set_option(action)
        if name == "preview":
            action.add_argument("--count", type=int, default=12, help="number of pictures")
        outputs = {
            "check": "folder of the clean copy (default: NAME_clean)",
            "convert": "folder (default: NAME_FORMAT)",
        }
        action.add_argument("--output", help=outputs.get(name, "file to write (default: NAME_ACTION.html or .jpg)"))
    for name, (text, module) in WITH_MODEL.items():
        action = actions.add_parser(
            name, help=text, description=f"{text.capitalize()}.", epilog=f"example:\n  {module.EXAMPLE}"
        )
        module.add_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    if args.action in WITH_MODEL:
        return WITH_MODEL[args.action][1].run(args)
    from retina_plugin.data.discover import find_card

    actions = {"check": _check, "convert": _convert, "stats": _stats, "anchors": _anchors, "preview": _preview}
    return actions[args.action](find_card(args.data, format=args.data_format), args)


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
    """Log errors of the data only: the report contains everything else."""
    logger = logging.getLogger("retina_plugin.data")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@_only_errors()
def _check(card: "DatasetCard", args: argparse.Namespace) -> int:
    """Print a report, and with --fix write a clean copy; return 1 if there are errors (in the copy, if any)."""
    from retina_plugin import load_config
    from retina_plugin.data.card import DatasetCard
    from retina_plugin.data.check import check_card
    from retina_plugin.data.export import write_dataset
    from retina_plugin.data.fix import fixed, remains
    from retina_plugin.engine.data_argument import FINETUNE
    from retina_plugin.paths import shipped

    options = [*WITHOUT_DATA, "MODEL.RETINANET.NUM_CLASSES", len(card.classes), *args.set]
    cfg = load_config(args.config_file or shipped(FINETUNE), options)
    report = check_card(
        card,
        most_objects=cfg.TEST.DETECTIONS_PER_IMAGE,
        shortest=cfg.INPUT.MIN_SIZE_TEST,
        longest=cfg.INPUT.MAX_SIZE_TEST,
        max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS,
    )
    print(report.text(most=0 if args.all else 20))
    if not args.fix:
        return int(report.failed)
    records, changes = fixed(report)
    folder = Path(args.output or f"{card.name}_clean")
    written = write_dataset(card, records, folder, name=f"{card.name}_clean")
    (folder / "changes.txt").write_text("".join(f"{change}\n" for change in changes), encoding="utf-8")
    copy = check_card(DatasetCard.from_file(written), progress=False, max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS)
    print(f"\n{remains(report, records)}")
    print(f"{len(changes)} changes, see {folder / 'changes.txt'}; the clean copy: {written}")
    if copy.failed:
        print(copy.text())
    print(f"to train on it: retina train --data {folder}")
    return int(copy.failed)


def _convert(card: "DatasetCard", args: argparse.Namespace) -> int:
    """Write another format; annotations that cannot be used are listed and left out."""
    from retina_plugin.data.account import account_of
    from retina_plugin.data.export import write_dataset
    from retina_plugin.data.load import load_split
    from retina_plugin.data.problems import describe

    results = {split: load_split(card, split) for split in card.splits}
    written = write_dataset(
        card,
        {split: result.records for split, result in results.items()},
        args.output or f"{card.name}_{args.to}",
        name=f"{card.name}_{args.to}",
        format=args.to,
    )
    print(account_of(card, results).text())
    for split, result in results.items():
        problems = f"; {describe(result.problems)}" if result.problems else ""
        print(f"{split}: {len(result.records)} images, {result.boxes_used} boxes{problems}")
    print(written)
    return 0


def _config(card: "DatasetCard", args: argparse.Namespace) -> "CfgNode":
    """Load the config of --config-file for the dataset, and register its training split."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from retina_plugin import load_config
    from retina_plugin.engine.data_argument import FINETUNE
    from retina_plugin.paths import shipped

    split = "train" if "train" in card.splits else next(iter(card.splits))
    name = f"{card.root_path()}: {split}"  # unlike the name of any card in datasets/
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, lambda: card.load(split))
        MetadataCatalog.get(name).set(thing_classes=card.classes)
    pixels = ["INPUT.VALUE_RANGE", card.value_range] if card.value_range is not None else []
    return load_config(
        args.config_file or shipped(FINETUNE),
        [*WITHOUT_DATA, "DATASETS.TRAIN", (name,), *pixels, *args.set],
    )


def _stats(card: "DatasetCard", args: argparse.Namespace) -> int:
    """Write the HTML page."""
    from retina_plugin.data.account import account_of
    from retina_plugin.data.load import load_split
    from retina_plugin.data.pixels import build_reader
    from retina_plugin.report.dataset_page import statistics_page

    cfg = _config(card, args)
    file = args.output or f"{card.name}_stats.html"
    results = {split: load_split(card, split, max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS) for split in card.splits}
    records = {split: result.records for split, result in results.items()}
    statistics_page(
        card.name,
        card.classes,
        records,
        account=account_of(card, results).text(),
        shortest=cfg.INPUT.MIN_SIZE_TEST,
        longest=cfg.INPUT.MAX_SIZE_TEST,
        read=build_reader(cfg, "BGR"),
    ).write(file)
    print(file)
    return 0


def _anchors(card: "DatasetCard", args: argparse.Namespace) -> int:
    """Print the coverage, search for better anchors, print their keys, and draw the worst images."""
    import cv2

    from detectron2.data import DatasetCatalog

    from retina_plugin.analysis.coverage import AnchorLayout, advice, coverage, coverage_table, ground_truth, search
    from retina_plugin.data.pixels import build_reader
    from retina_plugin.report.anchor_page import worst_sheet

    cfg = _config(card, args)
    sides = {"shortest": cfg.INPUT.MIN_SIZE_TEST, "longest": cfg.INPUT.MAX_SIZE_TEST}
    records = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])
    truth, layout = ground_truth(records, **sides), AnchorLayout.from_config(cfg)
    if not len(truth.boxes):
        raise ValueError(f"{card.name} has no boxes to look at")
    best, now = layout.best_overlaps(truth), coverage(truth, layout)
    sizes = f"{sides['shortest']} px (longer side at most {sides['longest']})"
    print(f"{cfg.DATASETS.TRAIN[0]} at {sizes}, anchors of {args.config_file or 'configs/finetune.yaml'}\n")
    print(coverage_table(truth, best, card.classes))
    found = search(truth, layout)
    print(f"\n| {' | '.join(ANCHOR_COLUMNS)} |\n{'|---' * len(ANCHOR_COLUMNS)}|")
    for one in (now, *found):
        of = one.layout
        cells = [
            "now" if one is now else _kind(of, layout),
            f"{of.scale:g}",
            of.scales_per_octave,
            list(of.ratios),
            f"P{of.levels[0]}-P{of.levels[-1]}",
            f"{100 * one.matched:.1f} %",
            f"{one.mean:.3f}",
            f"{of.locations / layout.locations:.2f}",
        ]
        print(f"| {' | '.join(map(str, cells))} |")
    print(f"\n{advice(now, found, **sides)}")
    file = args.output or f"{card.name}_anchors.jpg"
    cv2.imwrite(file, worst_sheet(records, truth, best, read=build_reader(cfg, "BGR")))
    print(
        f"{file}: the images with the most boxes without an anchor; green boxes have one at IoU >= 0.5, red ones none"
    )
    return 0


def _kind(layout: "AnchorLayout", now: "AnchorLayout") -> str:
    """Name what differs from the anchors of now."""
    if layout.input != 1:
        return f"images x {layout.input:g}"
    return "with P2" if layout.levels[0] < now.levels[0] else "other anchors"


def _preview(card: "DatasetCard", args: argparse.Namespace) -> int:
    """Draw training images after augmentation."""
    import itertools

    import cv2

    from detectron2.utils.env import seed_all_rng

    from retina_plugin.engine import RetinaTrainer
    from retina_plugin.report.dataset_page import augmented_sheet

    cfg = _config(card, args)
    seed_all_rng(max(0, cfg.SEED))
    loader = RetinaTrainer.build_train_loader(cfg)
    samples = list(itertools.islice(itertools.chain.from_iterable(loader), args.count))
    file = args.output or f"{card.name}_preview.jpg"
    cv2.imwrite(file, augmented_sheet(samples, card.classes, image_format=cfg.INPUT.FORMAT))
    print(file)
    return 0
