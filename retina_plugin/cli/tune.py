"""``retina tune``: search for values of a few keys by trainings."""

import argparse

from retina_plugin.arguments import add_set_option

EXAMPLE = """retina plan pets --minutes 5 --output pets.yaml
  retina tune pets.yaml --minutes 240 --output output/tune_pets"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("config", help="a config file, such as the one that `retina plan` writes")
    parser.add_argument("--trials", type=int, metavar="N", help="number of trainings in all")
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="start no training later than this after the beginning of the call"
    )
    parser.add_argument(
        "--space",
        metavar="FILE",
        help="YAML: a config key and a list of values, or {low, high, log} (default: learning rate, strength of the "
        "augmentation, anchors)",
    )
    parser.add_argument("--metric", default="", help="of the validation data (default: TEST.BEST_METRIC)")
    parser.add_argument("--seed", type=int, default=0, help="of the proposals")
    parser.add_argument(
        "--output", default="output/tune", metavar="FOLDER", help="the same folder continues the search"
    )
    add_set_option(parser, "a config key and its value, for every training; may be repeated")


def run(args: argparse.Namespace) -> int:
    """Search, print the trials from the best on, and write the best config."""
    from pathlib import Path

    import retina_plugin
    from retina_plugin.ablation.tuning import BEST, best_of, default_space, described, read_space, tune
    from retina_plugin.config.files import read_settings

    for name in ("trials", "minutes"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"--{name} must be above 0; got {value:g}")
    cfg = retina_plugin.load_config(args.config, args.set)
    metric = args.metric or cfg.TEST.BEST_METRIC or "bbox/AP"
    if args.space:
        space = read_space(args.space)
    else:
        # The rate of the file, which loading scales to the batch, as it will that of a trial.
        written = {**{key: x.value for key, x in read_settings(args.config).items()}, **dict(_pairs(args.set))}
        rate = float(str(written.get("SOLVER.BASE_LR", cfg.SOLVER.BASE_LR)))
        space = default_space(rate, cfg.MODEL.ANCHOR_GENERATOR.SCALE)
    trials = tune(
        args.config,
        args.output,
        space=space,
        metric=metric,
        trials=args.trials,
        minutes=args.minutes,
        opts=tuple(map(str, args.set)),
        seed=args.seed,
    )
    ranked = sorted(trials, key=lambda trial: -1.0 if trial.score is None else trial.score, reverse=True)
    print("\n".join(described(trial, metric) for trial in ranked))
    if best_of(trials) is None:
        print("no training succeeded")
        return 1
    print(f"the best, to train with: {Path(args.output) / BEST}")
    return 0


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    """Return alternating keys and values as pairs."""
    return list(zip(words[0::2], words[1::2], strict=True))
