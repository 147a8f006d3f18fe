"""The command line of ``train_net.py``."""

import argparse
import difflib
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

EXAMPLES = """
Train on a folder of images and annotations (COCO, VOC, YOLO, CSV, labelme):
  python train_net.py --data FOLDER
  python train_net.py --data FOLDER --epochs 50 --batch 4 --size 640 --name pets

A recipe, and any key of it, anywhere on the line:
  python train_net.py --config-file configs/digits/quickstart.yaml SOLVER.MAX_ITER 500 --device cpu

Continue a run that was stopped; evaluate weights:
  python train_net.py --data FOLDER --resume OUTPUT_DIR output/pets
  python train_net.py --data FOLDER --eval-only MODEL.WEIGHTS output/pets/model_best.pth

Several GPUs; several machines:
  python train_net.py --data FOLDER --num-gpus 8
  torchrun --nnodes 2 --nproc_per_node 8 ... train_net.py --data FOLDER

Exit codes: 0 finished; 2 an error that you can fix, named in the last line; 3 losses, gradients or weights that are not
finite; 75 stopped by a signal after a checkpoint was written, --resume continues; 1 a bug in the program.
"""

TO_GIVE = """say what to train on:
  --data FOLDER                                       your images and annotations
  --config-file configs/digits/quickstart.yaml        a recipe
--help shows more."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Appends the default to the help of an option, unless the help mentions one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        shown = action.default not in (None, "", False, argparse.SUPPRESS) and action.default != []
        return f"{text} (default: %(default)s)" if action.option_strings and shown and "default" not in text else text


class Parser(argparse.ArgumentParser):
    """A parser whose help shows defaults and whose errors are one sentence.

    Args:
        overrides: words that are no flags are KEY VALUE pairs, anywhere on the line; they end up in ``opts``.
    """

    def __init__(self, *args: Any, overrides: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **{"formatter_class": HelpFormatter, "allow_abbrev": False, **kwargs})
        self.overrides = overrides

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the flags; where the command takes KEY VALUE pairs, the other words become ``opts``.

        Raises:
            SystemExit: 2, with one sentence, for an unknown flag or a value of the wrong kind.
        """
        words = set_options_as_pairs(list(sys.argv[1:] if args is None else args))
        found, rest = super().parse_known_args(words, namespace)
        if not self.overrides:
            return found, rest
        flags = [word for action in self._actions for word in action.option_strings]
        for word in rest:
            if word.startswith("--") and len(word) > 2:
                near = difflib.get_close_matches(word.partition("=")[0], flags, n=1, cutoff=0.5)
                self.error(f"there is no option {word}" + (f"; did you mean {near[0]}?" if near else ""))
        found.opts = [word for word in rest if word != "--"]
        return found, []

    def error(self, message: str) -> NoReturn:
        """Print one sentence and exit with code 2."""
        self.exit(2, f"error: {message}\n")


KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")
"""A config key, as a whole word."""


def add_set_option(parser: argparse.ArgumentParser, text: str = "a config key and its value; may be repeated") -> None:
    """Add ``--set KEY=VALUE``, for commands with positional arguments; ``args.set`` is KEY, VALUE, KEY, VALUE, ..."""
    parser.add_argument("--set", action=_SetAction, default=[], metavar="KEY=VALUE", help=text)


class _SetAction(argparse.Action):
    """Append the key and the value to the list."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        key, equals, value = values.partition("=")
        if not equals or not KEY.fullmatch(key):
            parser.error(f"--set takes KEY=VALUE, such as --set SOLVER.MAX_ITER=100; got {values}")
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), key, value])


def set_options_as_pairs(words: list[str]) -> list[str]:
    """Return a command line with ``--set KEY VALUE``, the former spelling, as ``--set KEY=VALUE``.

    Example:
        >>> set_options_as_pairs(["x.yaml", "--set", "SEED", "1", "--list"])
        ['x.yaml', '--set', 'SEED=1', '--list']
    """
    new: list[str] = []
    i = 0
    while i < len(words):
        new.append(words[i])
        i += 1
        if new[-1] != "--set":
            continue
        if i + 1 < len(words) and KEY.fullmatch(words[i]):
            warnings.warn("--set KEY VALUE is now --set KEY=VALUE", DeprecationWarning, stacklevel=2)
        pairs = []
        while i + 1 < len(words) and KEY.fullmatch(words[i]):
            pairs.append(f"{words[i]}={words[i + 1]}")
            i += 2
        if pairs:
            new += [word for pair in pairs for word in ("--set", pair)][1:]
    return new


def argument_parser(prog: str = "train_net.py") -> Parser:
    """Return the parser of ``train_net.py`` and of ``retina train``.

    It has Detectron2's options, ``--data``, and short forms of the keys that are changed most.
    """
    parser = Parser(
        prog=prog,
        usage=f"{prog} --data FOLDER | --config-file FILE  [options]  [KEY VALUE ...]",
        description="Train or evaluate RetinaNet.",
        epilog=EXAMPLES.replace("python train_net.py", f"python {prog}" if prog.endswith(".py") else prog),
        overrides=True,
    )
    add_training_arguments(parser)
    return parser


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``train_net.py``."""
    what = parser.add_argument_group("what to train on")
    what.add_argument(
        "--data",
        metavar="PATH",
        help="a folder of images and annotations, or a dataset card; unless --config-file names a config, the training "
        "is planned from the data (`retina plan` shows how)",
    )
    what.add_argument(
        "--data-format",
        metavar="FORMAT",
        help="coco, voc, yolo, csv, labelme, via or cvat; needed only if the folder has several or none is recognised",
    )
    what.add_argument("--config-file", default="", metavar="FILE", help="a YAML file, such as those in configs/")
    what.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module that registers variants of your own; added to the key IMPORTS; may be repeated",
    )
    what.add_argument(
        "--minutes",
        type=_positive(float),
        metavar="N",
        help="with --data: how long the training may take; the plan chooses the epochs from the speed of this machine",
    )
    what.add_argument(
        "--no-plan",
        action="store_true",
        help="with --data: train with configs/finetune.yaml as it is, instead of planning from the data",
    )
    mode = parser.add_argument_group("what to do")
    mode.add_argument("--resume", action="store_true", help="continue from the last complete checkpoint of the run")
    mode.add_argument("--overwrite", action="store_true", help="remove the run that OUTPUT_DIR holds, and start over")
    mode.add_argument(
        "--eval-only",
        action="store_true",
        help="evaluate MODEL.WEIGHTS; the results go below the run's folder, into eval/",
    )
    _add_short_forms(parser)
    _add_processes(parser)


def _add_short_forms(parser: argparse.ArgumentParser) -> None:
    """Add the short forms of the keys that are changed most."""
    short = parser.add_argument_group("short forms of keys")
    short.add_argument(
        "--epochs", type=_positive(float), metavar="N", help="SOLVER.EPOCHS: passes over the training images"
    )
    short.add_argument(
        "--batch",
        type=_positive(int),
        metavar="N",
        help="SOLVER.IMS_PER_BATCH: images a step, over all GPUs; BASE_LR is scaled with it",
    )
    short.add_argument(
        "--size",
        type=_positive(int),
        metavar="PIXELS",
        help="shorter side of the images in training and test; the longer is at most 4/3 of it (INPUT.*_SIZE_*)",
    )
    short.add_argument(
        "--lr", type=_positive(float), metavar="RATE", help="SOLVER.BASE_LR, at the batch size of the config"
    )
    short.add_argument("--device", help="MODEL.DEVICE: cpu, cuda, cuda:1, mps")
    short.add_argument("--name", type=_name, help="OUTPUT_DIR output/NAME")


def _add_processes(parser: argparse.ArgumentParser) -> None:
    """Add Detectron2's options for several processes."""
    many = parser.add_argument_group("several processes (torchrun needs none of these)")
    many.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        metavar="N",
        help="on this machine (default 1, or the CPU where there is none)",
    )
    many.add_argument("--num-machines", type=int, default=1, metavar="N", help="machines that train together")
    many.add_argument("--machine-rank", type=int, default=0, metavar="N", help="number of this machine, from 0")
    many.add_argument(
        "--dist-url",
        default="",
        metavar="URL",
        help="where the processes meet (default: a port of this machine)",
    )


def options_of_short_forms(args: argparse.Namespace) -> list[str]:
    """KEY VALUE pairs that ``--epochs`` and its like stand for."""
    opts = []
    for name, key in (
        ("epochs", "SOLVER.EPOCHS"),
        ("batch", "SOLVER.IMS_PER_BATCH"),
        ("lr", "SOLVER.BASE_LR"),
        ("device", "MODEL.DEVICE"),
    ):
        if (value := getattr(args, name, None)) is not None:
            opts += [key, str(value)]
    if (size := getattr(args, "size", None)) is not None:
        longer = str(round(size * 4 / 3))
        opts += ["INPUT.MIN_SIZE_TRAIN", f"({size},)", "INPUT.MAX_SIZE_TRAIN", longer]
        opts += ["INPUT.MIN_SIZE_TEST", str(size), "INPUT.MAX_SIZE_TEST", longer]
    if (run := getattr(args, "name", None)) is not None:
        opts += ["OUTPUT_DIR", f"output/{run}"]
    return opts


def check_arguments(args: argparse.Namespace) -> None:
    """Check that the options fit together.

    Raises:
        ValueError: naming the option.
    """
    if args.num_gpus < 0:
        raise ValueError(f"--num-gpus must be at least 0; got {args.num_gpus}")
    if args.num_machines < 1:
        raise ValueError(f"--num-machines must be at least 1; got {args.num_machines}")
    if not 0 <= args.machine_rank < args.num_machines:
        last = args.num_machines - 1
        raise ValueError(f"--machine-rank must be from 0 to {last}, less than --num-machines; got {args.machine_rank}")
    if args.resume and getattr(args, "overwrite", False):
        raise ValueError("--resume continues a run and --overwrite removes it: give one of them")
    if not args.config_file and not getattr(args, "data", None):
        raise ValueError(TO_GIVE)
    if getattr(args, "minutes", None):
        if args.config_file or not getattr(args, "data", None) or getattr(args, "no_plan", False):
            raise ValueError(
                "--minutes is for a training that is planned: give --data, and no --config-file, --no-plan"
            )
        if getattr(args, "epochs", None):
            raise ValueError("--minutes and --epochs both say how long to train: give one of them")


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """Return the type of an option: a number above 0 of the given kind."""

    def convert(text: str) -> float:
        """Return the number that the text is."""
        try:
            value: float = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be a {'whole ' if kind is int else ''}number above 0; got {text!r}")
        return int(value) if float(value).is_integer() else value

    return convert


def _name(text: str) -> str:
    """Return the name of a folder below output/."""
    if not re.fullmatch(r"[\w-][\w.-]*", text) or len(text) > 100:
        raise argparse.ArgumentTypeError(
            f"must be letters, digits, '-', '_' and '.', the name of a folder below output/; got {text!r}"
        )
    return text
