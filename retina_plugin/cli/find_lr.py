"""``retina find-lr``: the loss while the learning rate rises."""

import argparse

from retina_plugin.arguments import add_set_option

EXAMPLE = "retina find-lr configs/digits/quickstart.yaml --steps 60 --set SOLVER.IMS_PER_BATCH=16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument(
        "config", help="a config file, such as configs/digits/quickstart.yaml or output/pets/config.yaml"
    )
    add_set_option(parser)
    parser.add_argument("--low", type=float, default=1e-6, help="first rate")
    parser.add_argument("--high", type=float, default=1.0, help="last rate")
    parser.add_argument("--steps", type=int, default=100, help="at most")
    parser.add_argument("--output", default="output/find_lr", help="folder for lr.json and lr.png")


def run(args: argparse.Namespace) -> int:
    """Search, write the curve, and print the result."""
    from pathlib import Path

    import retina_plugin
    from retina_plugin.engine.lr_finder import find_lr, write_curve
    from retina_plugin.engine.trainer import TRAINER_REGISTRY

    cfg = retina_plugin.load_config(args.config, [*args.set, "OUTPUT_DIR", args.output])
    with retina_plugin.set_up(cfg, started_by="retina find-lr", record=False):
        curve = find_lr(
            cfg, trainer=TRAINER_REGISTRY.get(cfg.SOLVER.TRAINER), low=args.low, high=args.high, steps=args.steps
        )
        files = write_curve(curve, Path(args.output), used=cfg.SOLVER.BASE_LR)
    if curve.suggestion is None:
        found = "the loss is lowest at the first or last rate: try other bounds, or more steps"
    else:
        found = f"a tenth of the rate with the lowest loss is {curve.suggestion:.2g}"
    used = f"SOLVER.BASE_LR is {cfg.SOLVER.BASE_LR:g}, for batches of {cfg.SOLVER.IMS_PER_BATCH}"
    print(f"{found}; {used}. {', '.join(map(str, files))}")
    return 0
