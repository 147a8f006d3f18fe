"""``retina describe``: parameters, operations, levels and anchors of a config."""

import argparse

from retina_plugin.arguments import add_set_option

EXAMPLE = "retina describe configs/coco/retinanet_R_50_FPN_1x.yaml --set MODEL.FPN.NAME=pafpn --size 800 1333"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("config", help="a config file, such as configs/coco/retinanet_R_50_FPN_1x.yaml")
    add_set_option(parser)
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="of the image (default: INPUT.MIN_SIZE_TEST, and 4/3 of it, at most INPUT.MAX_SIZE_TEST)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    import logging

    from detectron2.modeling import build_model

    from retina_plugin import load_config
    from retina_plugin.engine.freezing import freeze_parameters
    from retina_plugin.modeling.describe import describe

    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    logging.getLogger("torch.fx").setLevel(logging.ERROR)  # what it thinks of Detectron2's anchors
    try:
        cfg = load_config(args.config, args.set)
        model = build_model(cfg)
        freeze_parameters(model, cfg.MODEL.FREEZE)
        shorter = cfg.INPUT.MIN_SIZE_TEST or cfg.INPUT.MAX_SIZE_TEST
        print(describe(model, size=tuple(args.size or (shorter, min(cfg.INPUT.MAX_SIZE_TEST, round(shorter * 4 / 3))))))
    finally:
        logging.disable(before)
    return 0
