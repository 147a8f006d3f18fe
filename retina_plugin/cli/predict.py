"""``retina predict``: detect objects in images and videos."""

import argparse
from typing import Any

from retina_plugin.arguments import add_set_option

EXAMPLE = """retina predict output/pets/model_best.pth photos/                     a folder, into output/predict
  retina predict output/pets/model_best.pth "photos/*.jpg" clip.mp4 --draw       with pictures
  retina predict output/pets/model_best.pth photos/ --format yolo                labels to correct by hand
  find . -name '*.jpg' | retina predict output/pets/model_best.pth - --output found"""

EXPORTED = (".onnx", ".xml", ".ts", ".pt2")
"""Suffixes of files of ``retina export``."""

SECONDS = 10.0
"""Time between two lines of progress."""

FAILED_SHOWN = 50
"""Images that could not be read and are listed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "checkpoint",
        help="a .pth or .safetensors file that the plugin wrote, or an .onnx or .xml file of `retina export`",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="an image, a folder, a quoted pattern, a .txt list of paths, a video, camera:0, the address of a network "
        "camera, or - for paths on stdin",
    )
    parser.add_argument("--output", metavar="FOLDER", help="new folder of the results (default: output/predict)")
    parser.add_argument(
        "--format",
        action="append",
        dest="formats",
        metavar="FORMAT",
        help="of the annotations: coco, csv, yolo, voc or labelme; may be repeated (default: coco)",
    )
    parser.add_argument("--draw", action="store_true", help="also write pictures, and videos, with the boxes drawn")
    parser.add_argument(
        "--score",
        type=float,
        metavar="S",
        help="minimum score of all classes (default: the best F1 per class in the last evaluation, which the "
        "checkpoint holds)",
    )
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="images in the network at once")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read images (default: half the cores)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="predict on every Nth frame of a video")
    parser.add_argument(
        "--tiles",
        metavar="PIXELS",
        help="cut large images into tiles of this side; auto: the size of the training images",
    )
    parser.add_argument("--tta", action="store_true", help="test-time augmentation: three scales, and mirrored")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    add_set_option(parser)


def needs_torch(args: argparse.Namespace) -> bool:
    """Return whether the detector is a checkpoint, and not a file of ``retina export``."""
    return not args.checkpoint.endswith(EXPORTED)


def run(args: argparse.Namespace) -> int:
    """Predict, and write what was found; 1 if an image could not be read."""
    from pathlib import Path

    from retina_plugin.engine.console import Console, say
    from retina_plugin.engine.folder import numbered
    from retina_plugin.inference.output import PredictionFiles
    from retina_plugin.inference.sources import find_sources

    for name, least in (("batch", 1), ("every", 1), ("workers", 0)):
        if (value := getattr(args, name)) is not None and value < least:
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    if args.score is not None and not 0 <= args.score < 1:
        raise ValueError(f"--score must be at least 0 and below 1, got {args.score:g}")
    sources = find_sources(args.sources)
    folder = Path(args.output) if args.output else next(x for x in numbered(Path("output/predict")) if not x.exists())
    with Console():
        predictor, value_range = _load_checkpoint(args) if needs_torch(args) else _load_exported(args)
        files = PredictionFiles(
            folder,
            predictor.class_names,
            formats=args.formats or ["coco"],
            draw=args.draw,
            value_range=value_range,
            origin=args.checkpoint,
        )
        stopped = _predict(args, predictor, sources, files)
        if files.failed:
            say(f"{len(files.failed)} of the images could not be read:")
            for failed in files.failed[:FAILED_SHOWN]:
                say(f"  {failed.name}: {failed.error}")
            if len(files.failed) > FAILED_SHOWN:
                say(f"  and {len(files.failed) - FAILED_SHOWN} more")
    if stopped:
        say("stopped by Ctrl-C: what was found until then is written")
        return 130
    return 1 if files.failed else 0


def _predict(args: argparse.Namespace, predictor: Any, sources: Any, files: Any) -> bool:
    """Predict on all sources, report the progress, and write the files; return whether Ctrl-C ended it early."""
    import time

    from retina_plugin.engine.console import duration, say
    from retina_plugin.inference.stream import Timing, predict_stream

    timing, stopped = Timing(), False
    of = f" of {len(sources.images)}" if not sources.videos else ""
    start = shown = time.monotonic()
    stream = predict_stream(
        predictor, sources, batch_size=args.batch, workers=args.workers, every=args.every, timing=timing
    )
    try:
        for found in stream:
            files.add(found)
            if (now := time.monotonic()) - shown > SECONDS:
                shown = now
                say(f"{len(files.records) + len(files.failed)}{of} images, {timing}", flush=True)
    except KeyboardInterrupt:
        stopped = True
    finally:
        written = files.close()
    boxes = sum(len(record["annotations"]) for record in files.records)
    spent = duration(time.monotonic() - start)
    say(f"{len(files.records)} images, {boxes} objects in {spent}: {timing}")
    say(f"written: {', '.join(map(str, written))}")
    return stopped


def _load_checkpoint(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return the predictor of a checkpoint, and the range of its pixel values."""
    from retina_plugin.data.pixels import value_range_of
    from retina_plugin.inference.predictor import load_predictor

    predictor = load_predictor(
        args.checkpoint,
        score_thresh="best" if args.score is None else args.score,
        device=args.device,
        imports=bool(args.imports),
        settings=[*_view_settings(args), *args.set],
    )
    return predictor, value_range_of(predictor.cfg)


def _load_exported(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return a file of ``retina export``, and the range of its pixel values."""
    from retina_plugin.data.pixels import PixelRange
    from retina_plugin.export.runtime import ExportedModel

    unusable = {"--tiles": args.tiles, "--tta": args.tta, "--set": args.set, "--device": args.device}
    if given := [name for name, value in unusable.items() if value]:
        raise ValueError(f"{', '.join(given)} need the checkpoint, not an exported file")
    model = ExportedModel(args.checkpoint, score="best" if args.score is None else args.score)
    values = model.metadata.value_range
    return model, PixelRange(*values) if values else None


def _view_settings(args: argparse.Namespace) -> list:
    """Return the config keys and values of ``--tiles`` and ``--tta``."""
    from retina_plugin.config.files import settings_of
    from retina_plugin.engine.checkpoint import read_info

    settings: list = []
    if not (args.tiles or args.tta):
        return settings
    info = read_info(args.checkpoint)
    if args.tiles == "auto":
        if not info.get("image_size"):
            raise ValueError(
                f"{args.checkpoint} does not say how large its training images were; give the side of the tiles in "
                "pixels, such as --tiles 640"
            )
        settings += ["TEST.TILES.SIZE", min(info["image_size"])]
    elif args.tiles:
        if not args.tiles.isdecimal() or int(args.tiles) < 1:
            raise ValueError(f"--tiles takes a number of pixels or auto, got {args.tiles}")
        settings += ["TEST.TILES.SIZE", int(args.tiles)]
    if args.tta:
        known = settings_of(info["config"], args.checkpoint)
        size, longest = (float(str(known[f"INPUT.{name}_SIZE_TEST"].value)) for name in ("MIN", "MAX"))
        sizes = [round(size * factor) for factor in TTA_SCALES]
        settings += ["TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", sizes]
        settings += ["TEST.AUG.MAX_SIZE", round(longest * TTA_SCALES[-1]), "TEST.AUG.FLIP", True]
    return settings


TTA_SCALES = (0.8, 1.0, 1.25)
"""Sizes of the image under ``--tta``, relative to INPUT.MIN_SIZE_TEST."""
