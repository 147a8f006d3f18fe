"""``retina evaluate``: the metrics of a checkpoint."""

import argparse

from retina_plugin.arguments import Parser, add_set_option, argument_parser

EXAMPLE = """retina evaluate output/pets/model_best.pth                    on the validation images of its run
  retina evaluate output/pets/model_best.pth --data FOLDER      on other images, with the same classes
  retina evaluate model_final.pth --config-file configs/coco/retinanet_R_50_FPN_1x.yaml --set TEST.IMS_PER_BATCH=8"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("checkpoint", help="a .pth file that the plugin wrote, or any weights with --config-file")
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

    words = ["--eval-only", "--config-file", args.config_file or args.checkpoint, "--num-gpus", str(args.num_gpus)]
    for name in ("data", "data_format", "device"):
        if (value := getattr(args, name)) is not None:
            words += [f"--{name.replace('_', '-')}", value]
    words += [word for module in args.imports for word in ("--import", module)]
    evaluate(argument_parser().parse_args([*words, "MODEL.WEIGHTS", args.checkpoint, *args.set]))
    return 0
