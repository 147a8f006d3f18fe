"""``retina export``: a file that runs without torch, proven equal to the checkpoint."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from retina_plugin.arguments import add_set_option

EXAMPLE = """retina export output/pets/model_best.pth --to onnx                          model_best.onnx
  retina export output/pets/model_best.pth --to openvino --precision int8      model_best_int8.xml and .bin
  retina export output/pets/model_best.pth --to torchscript                    for torch without Detectron2
  retina export output/pets/model_best.pth --to detectron2                     for Detectron2's own RetinaNet
  retina export output/pets/model_best.pth --to safetensors                    weights, config and classes
  retina predict model_best.onnx photos/                                       runs without torch"""

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("onnx", "openvino", "torchscript", "torch-export", "detectron2", "safetensors")

FITS = {
    "nms": ("onnx", "openvino", "torchscript"),
    "triton": ("onnx", "openvino", "torchscript"),
    "size": ("torch-export",),
}
"""Options that only some kinds of files have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("checkpoint", help="a .pth or .safetensors file that the plugin wrote")
    parser.add_argument("--to", choices=KINDS, default="onnx", help="kind of file")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16", "bf16", "int8"), default="fp32", help="bf16 for openvino only"
    )
    parser.add_argument(
        "--nms",
        action="store_true",
        help="decoding and suppression inside the file, which then takes one image and returns boxes, scores and "
        "labels: for runtimes of your own; with onnx, openvino and torchscript, fp32",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="with torch-export: size of the images, which is fixed (default: the median of the training images)",
    )
    parser.add_argument(
        "--triton", metavar="FOLDER", help="also put the file into this model repository of NVIDIA Triton"
    )
    parser.add_argument("--output", metavar="FILE", help="to write (default: next to the checkpoint)")
    parser.add_argument(
        "--data", metavar="PATH", help="dataset of the proof (default: the validation images of the checkpoint's run)"
    )
    parser.add_argument("--images", type=int, default=200, metavar="N", help="of the proof, at most")
    parser.add_argument("--force", action="store_true", help="leave the file even if it differs too much")
    add_set_option(parser)


def run(args: argparse.Namespace) -> int:
    """Write the file, compare it with the checkpoint, and print what differs; 1 if it differs too much."""
    from pathlib import Path

    from retina_plugin.engine.checkpoint import read_checkpoint, read_info
    from retina_plugin.engine.console import Console, say
    from retina_plugin.engine.safetensors_file import write_safetensors
    from retina_plugin.export import writers

    checkpoint = Path(args.checkpoint)
    for option, kinds in FITS.items():
        if getattr(args, option) and args.to not in kinds:
            raise ValueError(f"--{option} goes with {', '.join(kinds)}, not with {args.to}")
    if args.to == "safetensors":
        file = Path(args.output or checkpoint.with_suffix(".safetensors"))
        read_info(str(checkpoint))
        file.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(read_checkpoint(str(checkpoint)), file)
        say(f"written: {file}")
        return 0
    if args.to == "detectron2":
        return _to_detectron2(args)
    if args.precision not in writers.PRECISIONS[args.to]:
        raise ValueError(f"--to {args.to} has the precisions {', '.join(writers.PRECISIONS[args.to])}")
    ending = "" if args.precision == "fp32" else f"_{args.precision}"
    file = Path(args.output or checkpoint.with_name(f"{checkpoint.stem}{ending}{writers.SUFFIX[args.to]}"))
    if file.suffix != writers.SUFFIX[args.to]:
        raise ValueError(f"--output must end in {writers.SUFFIX[args.to]}, got {file}")
    file.parent.mkdir(parents=True, exist_ok=True)
    unproven = file.with_name(f"{file.stem}.unproven{file.suffix}")
    try:
        with Console():
            wrong = _write_and_prove(args, unproven)
        if wrong and not args.force:
            say(f"error: {file} is not left behind, because {'; '.join(wrong)}. --force leaves it")
            return 1
        if file.suffix == ".xml":
            unproven.with_suffix(".bin").replace(file.with_suffix(".bin"))
        unproven.replace(file)
    finally:
        for leftover in (unproven, unproven.with_suffix(".bin")):
            leftover.unlink(missing_ok=True)
    say(f"written: {file}" + (f", although {'; '.join(wrong)}" if wrong else ""))
    if args.triton:
        from retina_plugin.export.runtime import ExportedModel
        from retina_plugin.export.triton import write_repository

        say(f"written: {write_repository(file, ExportedModel(file).metadata, Path(args.triton), file.stem)}")
    return 0


def _write_and_prove(args: argparse.Namespace, file: "Path") -> list[str]:
    """Write a file, with what its comparison with the checkpoint has shown, and print that.

    Returns:
        How it exceeds the bound of its precision; empty if it does not.
    """
    from dataclasses import replace
    from functools import partial
    from importlib.util import find_spec

    from retina_plugin.engine.console import say
    from retina_plugin.export import writers
    from retina_plugin.export.proof import prove
    from retina_plugin.export.runtime import ExportedModel
    from retina_plugin.inference.predictor import load_predictor

    for package in writers.PACKAGES[args.to]:
        if find_spec(package) is None:
            raise ImportError(f"--to {args.to} needs {package}: pip install 'retina-plugin[export]'")
    load = partial(load_predictor, args.checkpoint, device="cpu", imports=bool(args.imports))
    reference = load(settings=["SOLVER.AMP.ENABLED", False, "SOLVER.AMP.PRECISION", "fp32", *args.set])
    thresholds = None
    if held := reference.info.get("thresholds"):
        thresholds = [held["classes"].get(name, held["all"]) for name in reference.class_names]
    truth, images = _images_of(args, reference)
    metadata = writers.describe(reference, precision=args.precision, thresholds=thresholds, nms_inside=args.nms)
    if args.to == "torch-export":
        metadata = replace(metadata, input_size=_input_size(args, metadata))
    writers.WRITERS[args.to](
        reference, file, metadata, images=_calibration(args, reference, images), precision=args.precision
    )
    lines, wrong = prove(ExportedModel(file), reference, load(settings=list(args.set)), truth, images)
    for line in lines:
        say(line)
    writers.with_metadata(file, replace(metadata, proof={"lines": lines, "exceeds": wrong}))
    return wrong


def _input_size(args: argparse.Namespace, metadata: Any) -> list[int]:
    """Return the size of the network's input for images of ``--size``, or of the median size in training."""
    from retina_plugin.data.resize import output_size

    size = args.size or metadata.image_size
    if not size:
        raise ValueError(f"{args.checkpoint} does not say how large its training images were: give --size HEIGHT WIDTH")
    if min(size) < 1:
        raise ValueError(f"--size must be at least 1 x 1, got {size[0]} x {size[1]}")
    d = metadata.divisor
    height, width = size
    return [-(-side // d) * d for side in output_size(height, width, metadata.shorter, metadata.longest)]


def _to_detectron2(args: argparse.Namespace) -> int:
    """Write a config and weights for Detectron2's own RetinaNet, compared with the checkpoint."""
    from pathlib import Path

    from retina_plugin.engine.console import Console, say
    from retina_plugin.export.to_detectron2 import prove_detectron2, write_detectron2
    from retina_plugin.inference.predictor import load_predictor

    if args.precision != "fp32":
        raise ValueError(f"--to detectron2 has the precision fp32, got {args.precision}")
    checkpoint = Path(args.checkpoint)
    file = Path(args.output or checkpoint.with_name(f"{checkpoint.stem}_detectron2.pth"))
    if file.suffix != ".pth":
        raise ValueError(f"--output must end in .pth, got {file}")
    file.parent.mkdir(parents=True, exist_ok=True)
    exact = ["SOLVER.AMP.ENABLED", False, "SOLVER.AMP.PRECISION", "fp32"]
    unproven = file.with_name(f"{file.stem}.unproven.pth")
    try:
        with Console():
            settings = [*exact, *args.set]
            reference = load_predictor(args.checkpoint, device="cpu", imports=bool(args.imports), settings=settings)
            images = [x["file_name"] for x in _images_of(args, reference)[1]]
            write_detectron2(reference, unproven)
            lines, wrong = prove_detectron2(unproven, reference, images)
            for line in lines:
                say(line)
        if wrong and not args.force:
            say(f"error: {file} is not left behind, because {'; '.join(wrong)}. --force leaves it")
            return 1
        unproven.with_suffix(".yaml").replace(file.with_suffix(".yaml"))
        unproven.replace(file)
    finally:
        for leftover in (unproven, unproven.with_suffix(".yaml")):
            leftover.unlink(missing_ok=True)
    say(f"written: {file}, {file.with_suffix('.yaml')}")
    return 0


def _images_of(args: argparse.Namespace, predictor: Any) -> tuple[Any, list[dict]]:
    """Return the annotations and the images of the proof; (None, []) if there are none."""
    from detectron2.data import DatasetCatalog

    from retina_plugin.analysis.detections import dataset_of
    from retina_plugin.evaluation.ground_truth import GroundTruth

    name = dataset_of(args.data) if args.data else None
    if name is None:
        names = _datasets(args, predictor, "TEST")
        name = names[0] if names and names[0] in DatasetCatalog else _from_run(args.checkpoint, names)
    if name is None:
        return None, []
    truth = GroundTruth.of(name)
    if not truth.labelled or truth.class_names != list(predictor.class_names):
        return None, truth.coco["images"][: args.images]
    return truth, truth.coco["images"][: args.images]


def _datasets(args: argparse.Namespace, predictor: Any, key: str) -> list[str]:
    """Return the datasets that the config of a checkpoint names, DATASETS.TRAIN or TEST."""
    from retina_plugin.config.files import settings_of

    found: Any = settings_of(predictor.info["config"], args.checkpoint)[f"DATASETS.{key}"].value
    return list(found or ())


def _from_run(checkpoint: str, names: Sequence[str]) -> str | None:
    """Return the dataset whose card lies beside the checkpoint, registered; None if there is none."""
    from pathlib import Path

    from detectron2.data import DatasetCatalog

    from retina_plugin.data.card import RUN_CARD
    from retina_plugin.data.catalog import register_card

    card = Path(checkpoint).parent / RUN_CARD
    if names and card.is_file():
        register_card(card)
    return names[0] if names and names[0] in DatasetCatalog else None


def _calibration(args: argparse.Namespace, predictor: Any, images: list[dict]) -> list[str]:
    """Return the files that int8 is calibrated on: training images, or those of the proof."""
    from detectron2.data import DatasetCatalog

    from retina_plugin.data.catalog import result_of

    if args.precision != "int8":
        return []
    names = _datasets(args, predictor, "TRAIN")
    if names and names[0] in DatasetCatalog:
        return [x["file_name"] for x in result_of(names[0]).records]
    return [x["file_name"] for x in images]
