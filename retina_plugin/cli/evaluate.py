"""``retina evaluate``: the metrics of a checkpoint."""

import argparse

from retina_plugin.arguments import Parser, add_set_option, argument_parser

EXAMPLE = """retina evaluate output/pets/model_best.pth                    on the validation images of its run
  retina evaluate output/pets/model_best.pth --data FOLDER      on other images, with the same classes
  retina evaluate model_final.pth --config-file configs/coco/retinanet_R_50_FPN_1x.yaml --set TEST.IMS_PER_BATCH=8"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "checkpoint",
        help="a file that the plugin wrote (.pth, .safetensors, .onnx, .xml), or any weights with --config-file",
    )
    parser.add_argument("--data", metavar="PATH", help="a folder of images and annotations, or a dataset card")
    parser.add_argument("--data-format", metavar="FORMAT", help="of --data, if it is not recognised")
    parser.add_argument("--config-file", metavar="FILE", help="a config (default: the one that the checkpoint holds)")
    parser.add_argument("--device", help="MODEL.DEVICE: cpu, cuda, cuda:1, mps")
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="on this machine")
    add_set_option(parser)


def build_parser(prog: str) -> Parser:
    """Return the parser; modules of --import become part of the config here, as in training."""
    from retina_plugin.cli.main import add_import_option

    parser = Parser(prog=prog, description="Evaluate a checkpoint.", epilog=f"examples:\n  {EXAMPLE}")
    add_arguments(parser)
    add_import_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Evaluate; tables and predictions go into ``eval/`` below the folder of the run."""
    from retina_plugin.engine import run as evaluate
    from retina_plugin.export.runtime import SUFFIXES

    if args.checkpoint.endswith(SUFFIXES):
        return _evaluate_exported(args)
    words = ["--eval-only", "--config-file", args.config_file or args.checkpoint, "--num-gpus", str(args.num_gpus)]
    for name in ("data", "data_format", "device"):
        if (value := getattr(args, name)) is not None:
            words += [f"--{name.replace('_', '-')}", value]
    words += [word for module in args.imports for word in ("--import", module)]
    evaluate(argument_parser().parse_args([*words, "MODEL.WEIGHTS", args.checkpoint, *args.set]))
    return 0


def _evaluate_exported(args: argparse.Namespace) -> int:
    """Evaluate a file of ``retina export``, image by image."""
    from pathlib import Path

    import numpy as np

    from retina_plugin.analysis.detections import dataset_of
    from retina_plugin.engine.console import Console, say
    from retina_plugin.engine.evaluation_hook import figures
    from retina_plugin.engine.folder import numbered
    from retina_plugin.evaluation import HotCocoEvaluator, write_results
    from retina_plugin.evaluation.rows import PREDICTIONS, rows_from, write_predictions
    from retina_plugin.export.runtime import ExportedModel
    from retina_plugin.inference.sources import Sources
    from retina_plugin.inference.stream import Timing, predict_stream

    if not args.data:
        raise ValueError(f"{args.checkpoint} does not name a dataset; give --data")
    file = Path(args.checkpoint)
    with Console():
        model, dataset = ExportedModel(file), dataset_of(args.data)
        folder = next(x for x in numbered(file.parent / "eval" / file.stem) if not x.exists())
        most = model.metadata.max_detections
        evaluator = HotCocoEvaluator(dataset, output_dir=str(folder), detections_per_image=most)
        truth = evaluator.truth
        if truth.class_names != model.class_names:
            names = ", ".join(truth.class_names[:8])
            raise ValueError(f"{file} was trained on the classes {', '.join(model.class_names[:8])}, not on {names}")
        numbers = {x["file_name"]: x["id"] for x in truth.coco["images"]}
        timing, rows = Timing(), [np.zeros((0, 7), np.float32)]
        for found in predict_stream(model, Sources(tuple(numbers), ()), batch_size=1, timing=timing):
            if found.found is None:
                say(f"{found.name}: {found.error}; it is left out of the evaluation")
                continue
            rows.append(rows_from(numbers[found.name], *found.found))
            evaluator.processed.add(numbers[found.name])
        every = np.concatenate(rows)
        write_predictions(every, truth, folder / PREDICTIONS)
        coco = truth.of_images(evaluator.processed, dataset)
        results = {**evaluator.score(every, coco), **evaluator.thresholds(every, coco)}
        table = write_results(results, str(folder), f"{dataset}, {file}")
        values = {f"bbox/{name}": value for name, value in results["bbox"].items()}
        say(f"{dataset}: {figures(values)}, {timing}; full table in {table}")
    return 0
