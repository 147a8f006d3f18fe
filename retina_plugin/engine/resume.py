"""Resuming a run: from which checkpoint, and with which settings."""

import hashlib
import json
import logging
import os
import shutil
import zipfile
from pathlib import Path

import torch
import yaml

from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier

from retina_plugin.config import all_keys, get_key
from retina_plugin.engine.folder import numbered
from retina_plugin.paths import is_checkout

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
"""Keys, or prefixes of keys, that a checkpoint's tensors depend on; the last four group the optimizer's parameters."""

UNSAID = (
    "OUTPUT_DIR",
    "VERSION",
    "NEEDS_IMPORT_RETINA_PLUGIN",
    "MODEL.WEIGHTS",
    "MODEL.DEVICE",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.REFERENCE_BATCH_SIZE",
)
"""Keys whose change does not matter to a resumed run."""

CHECKSUM = ".sha256"
"""Suffix of the file with the sha256 of another, in the format of ``sha256sum -c``."""


def write_checksum(file: Path) -> None:
    """Write the sha256 of a file next to it."""
    file.with_name(file.name + CHECKSUM).write_text(f"{_sha256(file)}  {file.name}\n", encoding="utf-8")


def checksum_problem(file: Path) -> str | None:
    """Return what is wrong with a file according to the sha256 next to it; None if it matches or there is none."""
    checksum = file.with_name(file.name + CHECKSUM)
    if not checksum.is_file():
        return None
    words = checksum.read_text(encoding="utf-8", errors="replace").split()
    if not words or words[0] != _sha256(file):
        return (
            f"its sha256 is not the one in {checksum.name}: the file was damaged or replaced (remove {checksum.name} "
            "if you changed it on purpose)"
        )
    return None


def _sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def file_problem(file: Path) -> str | None:
    """Return why a run cannot be resumed from a file; None if it can."""
    if not file.is_file():
        return "there is no such file"
    if file.stat().st_size == 0:
        return "it is empty"
    if not zipfile.is_zipfile(file):
        return "it is truncated, or not a checkpoint"
    return checksum_problem(file)


def peek(file: str | Path) -> dict:
    """Return the content of a checkpoint; tensors are memory-mapped and read when they are used."""
    return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def iteration_of(file: Path) -> int:
    """Return the last iteration of a checkpoint; -1 if it holds none."""
    iteration = peek(file).get("iteration", -1)
    return iteration if isinstance(iteration, int) else -1


def find_checkpoint(folder: str | Path) -> Path | None:
    """Return the checkpoint that a run resumes from: that in "last_checkpoint", else the latest intact one.

    Args:
        folder: of the run.

    Returns:
        Path of the checkpoint; None if there are none.

    Raises:
        ValueError: there are checkpoints, but none is intact.
    """
    folder = Path(folder)
    tag = folder / "last_checkpoint"
    named = tag.read_text(encoding="utf-8", errors="replace").strip() if tag.is_file() else ""
    others = [
        file
        for file in folder.glob("model_*.pth")
        if file.name not in (named, "model_best.pth") and ".unfinished" not in file.name
    ]
    wrong: dict[str, str] = {}
    if named:
        file = folder / Path(named).name
        if (problem := file_problem(file)) is None:
            return file
        wrong[file.name] = problem
    intact = []
    for file in others:
        if problem := file_problem(file):
            wrong[file.name] = problem
        else:
            intact.append(file)
    problems = "; ".join(f"{name}: {problem}" for name, problem in wrong.items())
    if intact:
        latest = max(intact, key=lambda file: (iteration_of(file), file.name))
        why = problems or "the file last_checkpoint is missing or empty"
        logger.warning("%s; resuming from %s, of iteration %d", why, latest, iteration_of(latest) + 1)
        return latest
    if wrong:
        best = folder / "model_best.pth"
        way = f" MODEL.WEIGHTS {best} starts a new run from the best weights." if file_problem(best) is None else ""
        raise ValueError(f"no checkpoint in {folder} is intact: {problems}.{way}")
    return None


def compare(info: dict, cfg: CfgNode, class_names: list[str]) -> list[str]:
    """Check that a run with ``cfg`` can be resumed from a checkpoint.

    Args:
        info: description in the checkpoint, see :func:`retina_plugin.engine.checkpoint.describe_model`.
        cfg: config of the run to resume.
        class_names: of its dataset.

    Returns:
        "KEY old -> new" for each change that takes effect.

    Raises:
        ValueError: keys differ that must not change; all are listed with both values.
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
    names = list(info.get("class_names", class_names))
    if names != class_names and "MODEL.RETINANET.NUM_CLASSES" not in changed:
        fixed.append(f"the classes were {', '.join(names)}, are {', '.join(class_names)}")
    if fixed:
        raise ValueError(
            f"--resume needs the settings of the checkpoint: {'; '.join(fixed)}. Restore them, or start a new run "
            "(MODEL.WEIGHTS may name the checkpoint)"
        )
    return [f"{key} {a} -> {b}" for key, (a, b) in changed.items()]


def _plain(value: object) -> object:
    """Return a value with its tuples as lists, as YAML stores them."""
    return [_plain(x) for x in value] if isinstance(value, list | tuple) else value


def settings_of(optimizer: torch.optim.Optimizer) -> list[dict]:
    """Return the learning rate, weight decay and so on of every parameter group."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def restore_settings(
    optimizer: torch.optim.Optimizer, scheduler: object, settings: list[dict], base_lrs: list[float]
) -> None:
    """Restore the config's settings in an optimizer whose state was loaded, at its position in the schedule.

    Args:
        optimizer: its momentum and counters stay as they are.
        scheduler: one of Detectron2's; with any other kind, the learning rates of the checkpoint stay.
        settings: from :func:`settings_of`, before the checkpoint was loaded.
        base_lrs: base learning rates of the scheduler, before the checkpoint was loaded.
    """
    if not isinstance(scheduler, LRMultiplier):
        return
    scheduler.base_lrs = list(base_lrs)
    rates = scheduler.get_lr()
    for group, own, rate in zip(optimizer.param_groups, settings, rates, strict=True):
        group.update(own, lr=rate)
    scheduler._last_lr = rates


def repair_metrics(file: Path) -> None:
    """End the partial line that a killed run or a full disk left in ``metrics.json``: the next must start a new one."""
    if not file.is_file() or not file.stat().st_size:
        return
    with open(file, "rb+") as stream:
        stream.seek(-1, 2)
        if stream.read(1) != b"\n":
            stream.write(b"\n")


def json_lines(file: Path) -> list[dict]:
    """Return the complete lines of ``metrics.json``."""
    found = []
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # the partial line of a run that was killed
                continue
            if isinstance(values, dict):
                found.append(values)
    return found


def begin_metrics(folder: Path) -> None:
    """Start a new run with an empty ``metrics.json``; that of an earlier run is kept as ``metrics_earlier.json``."""
    file = folder / "metrics.json"
    if not file.is_file() or not file.stat().st_size:
        return
    names = (path.with_name(f"{path.name}.json") for path in numbered(folder / "metrics_earlier"))
    kept = next(path for path in names if not path.exists())
    shutil.copyfile(file, kept)
    os.truncate(file, 0)  # a writer that has it open continues at its end
    logger.warning("%s held the metrics of an earlier run, which are now in %s", file, kept.name)


def resume_command(cfg: CfgNode) -> str:
    """Return the command that resumes a run, for people to copy."""
    config = Path(cfg.OUTPUT_DIR) / "config.yaml"
    program = "python train_net.py" if is_checkout() else "retina train"
    return f"{program} --config-file {config} --resume OUTPUT_DIR {cfg.OUTPUT_DIR}"
