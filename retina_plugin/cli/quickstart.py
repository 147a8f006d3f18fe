"""``retina quickstart``: the whole way from nothing to predictions, on the bundled digits."""

import argparse
import json
from pathlib import Path

from retina_plugin.arguments import Parser
from retina_plugin.paths import is_checkout

CONFIG = "configs/digits/quickstart.yaml"
PICTURE = "ground_truth_and_predictions.jpg"
IMAGES_SHOWN = 6

EXAMPLE = "retina quickstart SOLVER.MAX_ITER 400 OUTPUT_DIR output/first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("--config-file", default=CONFIG, metavar="FILE", help="what to train")


def build_parser(prog: str) -> Parser:
    """Return the parser, which takes KEY VALUE pairs."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options] [KEY VALUE ...]",
        description="Train, evaluate and predict on the bundled digits.",
        epilog=f"example:\n  {EXAMPLE}",
        overrides=True,
    )
    add_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Train and evaluate, then predict on validation images with the checkpoint alone, and print what to try next."""
    import cv2

    from detectron2.data import DatasetCatalog

    from retina_plugin import load_config, load_predictor
    from retina_plugin.engine import argument_parser
    from retina_plugin.engine import run as run_training
    from retina_plugin.inference import draw_comparison

    folder = run_training(argument_parser().parse_args(["--config-file", args.config_file, *args.opts]))
    assert folder is not None, "one process trains"
    cfg = load_config(folder / "config.yaml")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    predictor = load_predictor(str(folder / "model_final.pth"))
    with_boxes = [record for record in DatasetCatalog.get(cfg.DATASETS.TEST[0]) if record["annotations"]]
    cv2.imwrite(str(folder / PICTURE), draw_comparison(predictor, with_boxes[:IMAGES_SHOWN]))
    train = "python train_net.py" if is_checkout() else "retina train"
    config = _from_here(args.config_file)
    print(f"""
AP {results["bbox"]["AP"]:.1f}, AP50 {results["bbox"]["AP50"]:.1f} on {cfg.DATASETS.TEST[0]}

  {folder / PICTURE}
  {folder / "coco_table.md"}            COCO's figures, and AP by class
  {folder / "model_final.pth"}          weights with config and class names
  {folder / "config.yaml"}              every setting of this run
  {folder / "metrics.json"}             loss, learning rate and speed

Next, evaluate it again, or change one thing and compare:

  retina evaluate {folder / "model_final.pth"}
  {train} --config-file {config} MODEL.RETINANET.FOCAL_LOSS_GAMMA 0.0 OUTPUT_DIR output/gamma0
""")
    return 0


def _from_here(path: str) -> Path:
    """The path as one would type it in the working directory."""
    absolute = Path(path).absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
