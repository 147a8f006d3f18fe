"""``retina data review``: mistakes in annotations that a detector finds, as a page to accept or reject them on."""

import argparse
import csv
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from retina_plugin.arguments import add_set_option

if TYPE_CHECKING:
    from retina_plugin.analysis.detections import Detections
    from retina_plugin.analysis.planting import Planted
    from retina_plugin.analysis.review import Candidate
    from retina_plugin.data.card import DatasetCard

PAGE, CANDIDATES, DATASET = "review.html", "candidates.csv", "dataset"
"""Files in the output folder: the page, the list, and the folder of the dataset with corrected annotations."""

EXAMPLE = """retina data review output/pets                     the validation images, by the detections of a run
  retina data review pets --folds 5                  all training images: five detectors, each trained on the others
  retina data review pets --folds 5 --plant 0.05     how many planted mistakes it finds"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the action."""
    parser.add_argument(
        "source",
        help="folder of a run or of an evaluation, or a JSON file of detections; with --folds a run or a dataset",
    )
    parser.add_argument("--data", metavar="PATH", help="a registered dataset, a card, or a folder of labelled images")
    parser.add_argument(
        "--folds",
        type=int,
        default=0,
        metavar="N",
        help="cross-validation: train N detectors, each of which reviews the images that it was not trained on",
    )
    parser.add_argument("--split", default="train", help="with --folds: the images to review")
    parser.add_argument(
        "--config-file", metavar="FILE", help="with --folds: of the trainings (default: that of the run, or finetune)"
    )
    parser.add_argument(
        "--plant",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="with --folds: plant mistakes of each kind in this share of the annotations and count those found",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the folds and of planted mistakes")
    parser.add_argument("--most", type=int, default=500, help="candidates on the page")
    parser.add_argument("--output", metavar="FOLDER", help="default: output/review/NAME")
    add_set_option(parser, "with --folds: a config key and its value for the trainings; may be repeated")


def run(args: argparse.Namespace) -> int:
    """Find candidates, write the page and the list, and print the numbers."""
    from detectron2.data import MetadataCatalog

    from retina_plugin.analysis.detections import read_detections
    from retina_plugin.analysis.review import KINDS, find_candidates
    from retina_plugin.data.card import DatasetCard
    from retina_plugin.engine.console import say

    if args.plant and not args.folds:
        raise ValueError("--plant needs --folds: the detector has to be trained on annotations with the same mistakes")
    if args.most < 1:
        raise ValueError(f"--most must be at least 1; got {args.most}")
    planted: list[Planted] = []
    card: DatasetCard | None
    if args.folds:
        card, detections, planted, output = _cross_validated(args)
    else:
        detections = read_detections(args.source, args.data)
        file = MetadataCatalog.get(detections.dataset).get("card")
        card = DatasetCard.from_file(file) if file else None
        output = Path(args.output or Path("output/review") / file_name(detections.dataset))
    output.mkdir(parents=True, exist_ok=True)
    found = find_candidates(detections)
    say(f"{len(detections.coco['images'])} images, {len(detections.coco['annotations'])} annotations")
    for kind, text in KINDS.items():
        mine = [x for x in found if x.kind == kind]
        say(f"{text}: {len(mine)} candidates, {sum(x.suspicion >= 0.5 for x in mine)} of them with suspicion >= 0.5")
    if planted:
        _report(args, found, planted, detections, output)
    _write_list(found, detections, output / CANDIDATES)
    _write_page(found[: args.most], detections, card, output)
    say(f"written: {output / PAGE} (open it in a browser), {output / CANDIDATES}")
    return 0


def _cross_validated(args: argparse.Namespace) -> tuple["DatasetCard", "Detections", list["Planted"], Path]:
    """Train and predict fold by fold; return the card, the detections, what was planted, and the output folder."""
    from retina_plugin.ablation.folds import cross_validated
    from retina_plugin.analysis.planting import plant
    from retina_plugin.data.load import load_split
    from retina_plugin.engine.data_argument import FINETUNE
    from retina_plugin.paths import shipped

    config = Path(args.source) / "config.yaml"
    is_run = config.is_file()
    card = _card_of_run(config) if is_run and not args.data else _card(args.data or args.source)
    if args.split not in card.splits:
        raise ValueError(f"{card.name} has no split {args.split}; it has {', '.join(card.splits)}")
    records: list[dict] = load_split(card, args.split).records
    planted: list[Planted] = []
    output = Path(args.output or Path("output/review") / card.name)
    if args.plant:
        records, planted = plant(records, len(card.classes), share=args.plant, seed=args.seed)
    detections = cross_validated(
        card,
        records,
        output / "folds",
        folds=args.folds,
        config_file=args.config_file or (config if is_run else shipped(FINETUNE)),
        opts=args.set,
        seed=args.seed,
    )
    return card, replace(detections, dataset=f"{card.name}_{args.split}"), planted, output


def _card(data: str) -> "DatasetCard":
    """Return the card of a folder or a file."""
    from retina_plugin.data.discover import find_card

    return find_card(data)


def _card_of_run(config: Path) -> "DatasetCard":
    """Return the card of the dataset that a run was trained on.

    Raises:
        ValueError: its dataset has no card.
    """
    import yaml

    from detectron2.data import DatasetCatalog, MetadataCatalog

    from retina_plugin.data.card import RUN_CARD, DatasetCard

    own = config.with_name(RUN_CARD)
    if own.is_file():
        return DatasetCard.from_file(own)
    names = yaml.safe_load(config.read_text(encoding="utf-8"))["DATASETS"]["TRAIN"]
    file = MetadataCatalog.get(names[0]).get("card") if names and names[0] in DatasetCatalog else None
    if file is None:
        raise ValueError(f"{config}: its dataset has no card; give --data")
    return DatasetCard.from_file(file)


def _report(
    args: argparse.Namespace,
    found: Sequence["Candidate"],
    planted: list["Planted"],
    detections: "Detections",
    output: Path,
) -> None:
    """Print how many of the planted mistakes were found, and write it."""
    from retina_plugin.analysis.planting import judge
    from retina_plugin.analysis.review import KINDS
    from retina_plugin.engine.console import say

    judged = judge(found, planted, detections)
    lines = [
        f"planted: {len(planted)} mistakes, {args.plant:g} of the annotations for each kind",
        *(
            f"precision in the first {n}: {judged.precision(n):.2f}, recall {judged.recall(n):.2f}"
            for n in (50, 100, 200, len(planted))
        ),
        f"recall among all {len(found)} candidates: {judged.recall(len(found)):.2f}",
        *(
            f"{KINDS[kind]}: {count} planted, {at_all} found, {as_kind} of them as this kind"
            for kind, (count, at_all, as_kind) in judged.by_kind.items()
        ),
    ]
    for line in lines:
        say(line)
    (output / "planted.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def file_name(dataset: str) -> str:
    """Return the name of a dataset as that of a file; names of views have brackets and spaces.

    Example:
        >>> file_name("pets_val[cat, dog=puppy]*2")
        'pets_val_cat_dog_puppy_2'
    """
    return re.sub(r"[^\w.-]+", "_", dataset).strip("_") or "dataset"


def _write_list(found: Sequence["Candidate"], detections: "Detections", file: Path) -> None:
    """Write the candidates as a table."""
    files = {x["id"]: x["file_name"] for x in detections.coco["images"]}
    names = detections.class_names
    with open(file, "w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "kind", "suspicion", "annotation", "class", "x", "y", "width", "height"])
        for x in found:
            box = ["", "", "", ""] if x.box is None else [f"{v:.1f}" for v in x.box]
            label = "" if x.label is None else names[x.label]
            writer.writerow([files[x.image], x.kind, f"{x.suspicion:.4f}", x.annotation or "", label, *box])


def _write_page(
    found: Sequence["Candidate"], detections: "Detections", card: "DatasetCard | None", output: Path
) -> None:
    """Write the page, and with a card the dataset that the corrected annotations complete."""
    from retina_plugin.data.pixels import read_image
    from retina_plugin.report.review_page import write_review

    folder = output / DATASET
    folder.mkdir(exist_ok=True)
    download = f"corrected_{file_name(detections.dataset)}.json"
    where = f"Move the saved file to {folder.absolute()}; the names of the images in it lead from there to the images."
    if card is not None:
        split = detections.dataset.removeprefix(f"{card.name}_")
        complete_dataset(card, split, folder, download)
        where += f" Then `retina train --data {folder}` trains on the corrected annotations."
    truth = detections.truth.coco
    images = [
        {**x, "file_name": os.path.relpath(x["file_name"], folder.absolute()).replace(os.sep, "/")}
        for x in truth["images"]
    ]
    write_review(
        found,
        detections,
        output / PAGE,
        coco={**truth, "images": images},
        download=download,
        where=where,
        read=lambda file: read_image(file, "BGR"),
    )


def complete_dataset(card: "DatasetCard", split: str, folder: Path, annotations: str) -> Path:
    """Write a dataset of which the annotations of one split are in a COCO JSON that does not exist yet.

    Args:
        card: of the dataset as it is.
        split: whose annotations come from the file.
        folder: of the new card.
        annotations: name of the file, which does not exist yet.
    """
    from retina_plugin.data.export import OURS
    from retina_plugin.data.formats import FORMAT_REGISTRY
    from retina_plugin.data.load import load_split

    others = {name: load_split(card, name).records for name in card.splits if name != split}
    splits = FORMAT_REGISTRY.get("coco")().write(others, card.classes, folder.absolute())
    written = replace(
        card,
        name=f"{card.name}_corrected",
        format="coco",
        root=str(folder.absolute()),
        splits={split: {"images": ".", "annotations": annotations}, **{name: x[0] for name, x in splits.items()}},
        generator=None,
        outside=True,
        left_out={},
        file=folder / f"{card.name}_corrected.yaml",
    )
    written.file.write_text(f"# {OURS}\n{written.text()}", encoding="utf-8")
    return written.file
