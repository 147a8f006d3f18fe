"""Going on with a run: which checkpoint, and with which settings."""

import hashlib
import json
import logging
import zipfile
from pathlib import Path

import torch
import yaml

from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier

from retina_plugin.config import all_keys, get_key

logger = logging.getLogger(__name__)

FIXED = (
    "MODEL.META_ARCHITECTURE",
    "MODEL.BACKBONE.",
    "MODEL.BOTTOM_UP.",
    "MODEL.RESNETS.",
    "MODEL.TIMM.",
    "MODEL.TORCHVISION.",
    "MODEL.FPN.",
    "MODEL.ANCHOR_GENERATOR.",
    "MODEL.RETINANET.NUM_CLASSES",
    "MODEL.RETINANET.LEVELS",
    "MODEL.RETINANET.IN_FEATURES",
    "MODEL.RETINANET.HEAD_NAME",
    "MODEL.RETINANET.HEAD_CHANNELS",
    "MODEL.RETINANET.NUM_CONVS",
    "MODEL.RETINANET.NORM",
    "MODEL.RETINANET.BBOX_REG_WEIGHTS",
    "MODEL.PIXEL_MEAN",
    "MODEL.PIXEL_STD",
    "INPUT.FORMAT",
    "SOLVER.OPTIMIZER",
    "SOLVER.BIAS_LR_FACTOR",
    "SOLVER.WEIGHT_DECAY_NORM",
    "SOLVER.WEIGHT_DECAY_BIAS",
    "SOLVER.BACKBONE_LR_FACTOR",
)
"""Keys, or beginnings of keys, on which the tensors of a checkpoint depend; the last four say which weights share an optimizer's settings."""

UNSAID = (
    "OUTPUT_DIR",
    "VERSION",
    "NEEDS_IMPORT_RETINA_PLUGIN",
    "MODEL.WEIGHTS",
    "MODEL.DEVICE",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.REFERENCE_BATCH_SIZE",
)
"""Keys whose change means nothing to a run that goes on."""

CHECKSUM = ".sha256"
"""Behind the name of a file whose sha256 it holds, as ``sha256sum -c`` reads it."""


def write_checksum(file: Path) -> None:
    """Write the sha256 of a file beside it."""
    file.with_name(file.name + CHECKSUM).write_text(f"{_sha256(file)}  {file.name}\n", encoding="utf-8")


def checksum_problem(file: Path) -> str | None:
    """What is wrong with a file according to the sha256 beside it; None if it is right or has none."""
    beside = file.with_name(file.name + CHECKSUM)
    if not beside.is_file():
        return None
    words = beside.read_text(encoding="utf-8", errors="replace").split()
    if not words or words[0] != _sha256(file):
        return f"its sha256 is not the one in {beside.name}: the file was damaged or exchanged (remove {beside.name} if you changed it on purpose)"
    return None


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def file_problem(file: Path) -> str | None:
    """Why a run cannot go on from a file, or None if it can."""
    if not file.is_file():
        return "there is no such file"
    if file.stat().st_size == 0:
        return "it is empty"
    if not zipfile.is_zipfile(file):
        return "it is truncated, or no checkpoint"
    return checksum_problem(file)


def peek(file: str | Path) -> dict:
    """A checkpoint, without its tensors being read before they are used."""
    return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def iteration_of(file: Path) -> int:
    """The last iteration of a checkpoint; -1 if it does not say."""
    iteration = peek(file).get("iteration", -1)
    return iteration if isinstance(iteration, int) else -1


def find_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint from which a run goes on: the one that "last_checkpoint" names, or the latest whole one; None if there is none.

    Raises:
        ValueError: there are checkpoints, and not one is whole.
    """
    folder = Path(folder)
    tag = folder / "last_checkpoint"
    named = tag.read_text(encoding="utf-8", errors="replace").strip() if tag.is_file() else ""
    others = [
        file
        for file in folder.glob("model_*.pth")
        if file.name not in (named, "model_best.pth") and ".unfinished" not in file.name
    ]
    wrong = {}
    if named:
        file = folder / Path(named).name
        if (problem := file_problem(file)) is None:
            return file
        wrong[file.name] = problem
    whole = []
    for file in others:
        if problem := file_problem(file):
            wrong[file.name] = problem
        else:
            whole.append(file)
    if whole:
        latest = max(whole, key=lambda file: (iteration_of(file), file.name))
        why = (
            "; ".join(f"{name}: {problem}" for name, problem in wrong.items())
            or "the file last_checkpoint is missing or empty"
        )
        logger.warning("%s; going on from %s, of iteration %d", why, latest, iteration_of(latest) + 1)
        return latest
    if wrong:
        best = folder / "model_best.pth"
        way = f" MODEL.WEIGHTS {best} begins a new run from the best weights." if file_problem(best) is None else ""
        raise ValueError(
            f"no checkpoint in {folder} is whole: "
            + "; ".join(f"{name}: {problem}" for name, problem in wrong.items())
            + "."
            + way
        )
    return None


def compare(info: dict, cfg: CfgNode, class_names: list[str]) -> list[str]:
    """See that a run with ``cfg`` can go on from a checkpoint.

    Args:
        info: what the checkpoint says of itself, see :func:`retina_plugin.engine.checkpoint.describe_model`.
        cfg: of the run that is to go on.
        class_names: of its dataset.

    Returns:
        "KEY old -> new" of what changes and takes effect.

    Raises:
        ValueError: a key differs that cannot change; all are named with both values.
    """
    old = CfgNode(yaml.safe_load(info["config"]))
    known = set(all_keys(old))
    values = {
        key: (_plain(get_key(old, key)), _plain(get_key(cfg, key)))
        for key in all_keys(cfg)
        if key in known and key not in UNSAID
    }
    changed = {key: (a, b) for key, (a, b) in values.items() if a != b}
    fixed = [f"{key} was {a}, is {b}" for key, (a, b) in changed.items() if key.startswith(FIXED)]
    if (
        names := list(info.get("class_names", class_names))
    ) != class_names and "MODEL.RETINANET.NUM_CLASSES" not in changed:
        fixed.append(f"the classes were {', '.join(names)}, are {', '.join(class_names)}")
    if fixed:
        raise ValueError(
            f"--resume cannot go on with other settings than the checkpoint's: {'; '.join(fixed)}. Set them back, or begin a new run (MODEL.WEIGHTS may name the checkpoint)"
        )
    return [f"{key} {a} -> {b}" for key, (a, b) in changed.items()]


def _plain(value: object) -> object:
    return [_plain(x) for x in value] if isinstance(value, list | tuple) else value


def settings_of(optimizer: torch.optim.Optimizer) -> list[dict]:
    """Learning rate, weight decay and so on of every group of parameters."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def restore_settings(
    optimizer: torch.optim.Optimizer, scheduler: object, settings: list[dict], base_lrs: list[float]
) -> None:
    """Give an optimizer, whose state came from a checkpoint, the settings of the config again, at its place in the schedule.

    Args:
        optimizer: its momentum and counters stay as they are.
        scheduler: Detectron2's; of another kind the checkpoint's learning rates stay.
        settings, base_lrs: as they were before the checkpoint was read.
    """
    if not isinstance(scheduler, LRMultiplier):
        return
    scheduler.base_lrs = list(base_lrs)
    rates = scheduler.get_lr()
    for group, own, rate in zip(optimizer.param_groups, settings, rates, strict=True):
        group.update(own, lr=rate)
    scheduler._last_lr = rates


def mend_metrics(file: Path) -> None:
    """End the half line that a killed run or a full disk left in ``metrics.json``, so that the next begins on one of its own."""
    if not file.is_file() or not file.stat().st_size:
        return
    with open(file, "rb+") as stream:
        stream.seek(-1, 2)
        if stream.read(1) != b"\n":
            stream.write(b"\n")


def json_lines(file: Path) -> list[dict]:
    """The lines of ``metrics.json`` that are whole."""
    found = []
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # the half line of a run that was killed
                continue
            if isinstance(values, dict):
                found.append(values)
    return found
