"""``retina data next``: which unlabelled images to label next."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retina_plugin.cli.predict import EXPORTED

if TYPE_CHECKING:
    import numpy as np

    from retina_plugin.inference.output import PredictionFiles
    from retina_plugin.inference.stream import Prediction

LIST, TABLE, LABELS = "next.txt", "next.csv", "labels"
"""Files in the output folder: the paths, the paths with their numbers, and the labels to correct."""

EXAMPLE = """retina data next photos/ --model output/pets/model_best.pth --budget 50
  retina data next photos/ --format labelme          by the newest run; labels to correct with labelme"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the action."""
    parser.add_argument("source", nargs="+", help="images, folders, patterns or lists, as for `retina predict`")
    parser.add_argument(
        "--model", metavar="FILE", help="a checkpoint (default: the newest model_best.pth below output/)"
    )
    parser.add_argument("--budget", type=int, default=50, metavar="N", help="number of images to choose")
    parser.add_argument(
        "--labelled",
        metavar="PATH",
        help="a dataset whose images are labelled already (default: that of the run of the model)",
    )
    parser.add_argument(
        "--format", default="coco", metavar="FORMAT", help="of the labels to correct: coco, csv, labelme, voc, yolo"
    )
    parser.add_argument("--draw", action="store_true", help="also write pictures with the labels drawn")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="images in the network at once")
    parser.add_argument("--output", default="output/next", metavar="FOLDER", help="empty or new")


def run(args: argparse.Namespace) -> int:
    """Predict on all images, choose some, and write them with labels; 1 if an image cannot be read."""
    import numpy as np

    from retina_plugin import load_predictor
    from retina_plugin.analysis.selection import choose_images, image_uncertainty
    from retina_plugin.engine.console import say
    from retina_plugin.inference.embedding import EmbeddingPredictor
    from retina_plugin.inference.output import PredictionFiles
    from retina_plugin.inference.predictor import best_thresholds
    from retina_plugin.inference.sources import Sources, find_sources
    from retina_plugin.inference.stream import predict_stream

    if args.budget < 1 or args.batch < 1:
        raise ValueError(f"--budget and --batch must be at least 1; got {args.budget} and {args.batch}")
    model = Path(args.model) if args.model else newest_model(Path("output"))
    if model.suffix in EXPORTED:
        raise ValueError(f"--model takes a checkpoint, whose features describe the images; got the file {model}")
    say(f"model: {model}")
    sources = find_sources(args.source)
    if sources.videos:
        raise ValueError(f"images are expected; got the video {sources.videos[0]}")
    known = labelled_files(model, args.labelled)
    files = tuple(file for file in sources.images if str(Path(file).resolve()) not in known)
    say(f"{len(sources.images)} images, {len(sources.images) - len(files)} of them labelled already")
    if not files:
        raise ValueError("all images are labelled already")
    predictor = load_predictor(model, device=args.device, settings=["TEST.TILES.SIZE", 0, "TEST.AUG.ENABLED", False])
    thresholds = best_thresholds(predictor.info, str(model))
    labels = PredictionFiles(
        Path(args.output) / LABELS, predictor.class_names, formats=(args.format,), draw=args.draw, origin=str(model)
    )
    described = EmbeddingPredictor(predictor)
    stream = predict_stream(described, Sources(files, ()), batch_size=args.batch)
    predictions: list[Prediction] = []
    failed: list[Prediction] = []
    for prediction in stream:
        (predictions if prediction.found is not None else failed).append(prediction)
    if not predictions:
        raise ValueError(f"none of the {len(files)} images can be read")
    found = [x.found for x in predictions if x.found is not None]
    unsure = np.array([image_uncertainty(x.scores, x.labels, thresholds) for x in found])
    features = np.stack([described.features[x.name] for x in predictions])
    chosen = choose_images(unsure, features, args.budget)
    written = _write(labels, Path(args.output), [predictions[i] for i in chosen], unsure[chosen], thresholds)
    say(
        f"{len(chosen)} images chosen, mean uncertainty {unsure[chosen].mean():.2f} bits; "
        f"all {len(predictions)}: {unsure.mean():.2f} bits"
    )
    say(f"written: {', '.join(map(str, written))}")
    for one in failed:
        say(f"{one.name} {one.error}")
    return int(bool(failed))


def newest_model(folder: Path) -> Path:
    """Return the best checkpoint that was written last below a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(folder.glob("**/model_best.pth"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"no model_best.pth below {folder}; give --model")
    return found[-1]


def labelled_files(model: Path, data: str | None) -> set[str]:
    """Return the images that have labels already.

    Args:
        model: a checkpoint; None of ``data`` means the dataset of its run: the card next to it, or the registered
            datasets that its config names.
        data: a dataset, or None.
    """
    from detectron2.data import DatasetCatalog

    from retina_plugin.config.files import settings_of
    from retina_plugin.data.card import RUN_CARD, DatasetCard
    from retina_plugin.data.catalog import result_of
    from retina_plugin.data.discover import find_card
    from retina_plugin.data.load import load_split
    from retina_plugin.engine.checkpoint import read_info

    own = model.with_name(RUN_CARD)
    if data is not None or own.is_file():
        card = find_card(data) if data is not None else DatasetCard.from_file(own)
        results = [load_split(card, split, look=False) for split in card.splits]
    else:
        known = settings_of(read_info(str(model))["config"], str(model))
        values: list[Any] = [known[f"DATASETS.{key}"].value for key in ("TRAIN", "TEST")]
        names = [name for value in values for name in value or ()]
        results = [result_of(name, look=False) for name in names if name in DatasetCatalog]
    return {str(Path(record["file_name"]).resolve()) for result in results for record in result.records}


def _write(
    labels: "PredictionFiles",
    output: Path,
    chosen: "list[Prediction]",
    unsure: "np.ndarray",
    thresholds: list[float],
) -> list[Path]:
    """Write the list, the table and the labels from the thresholds on; return the paths."""
    import csv

    import numpy as np

    from retina_plugin.inference.stream import Found

    with open(output / TABLE, "w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "uncertainty", "detections"])
        for one, bits in zip(chosen, unsure, strict=True):
            found = one.found
            assert found is not None, "images that cannot be read are not chosen"
            kept = found.scores >= np.asarray(thresholds, dtype=np.float32)[found.labels]
            one.found = Found(*(x[kept] for x in found))
            labels.add(one)
            writer.writerow([one.name, f"{bits:.2f}", int(kept.sum())])
    paths = "".join(f"{Path(one.name).resolve()}\n" for one in chosen)
    (output / LIST).write_text(paths, encoding="utf-8", errors="surrogateescape")
    return [output / LIST, output / TABLE, *labels.close()]
