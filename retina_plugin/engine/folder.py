"""Folders of runs: choose one, lock it, and overwrite nothing in it."""

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:  # names of folders are needed without detectron2, too
    from detectron2.config import CfgNode

LOCK = ".lock"
CHECKPOINT = re.compile(r"model_\d{7}\.pth")
"""File names of the checkpoints that SOLVER.CHECKPOINT_PERIOD writes."""

RECORD = (
    "model_*.pth",
    "model_*.pth.sha256",
    "last_checkpoint",
    "metrics.json",
    "metrics_earlier*.json",
    "results.json",
    "coco_table.md",
    "coco_instances_results.json",
    "precision_recall.json",
    "summary.json",
    "report.html",
    "log.txt*",
    "config*.yaml",
    "environment.txt",
    "planned.json",
    "model.txt",
    "events.out.tfevents.*",
)
"""Files that a run writes into its folder and ``--overwrite`` removes."""

UNFINISHED = ("*.unfinished.pth", "*.tmp")
"""Files that a run leaves behind if it is killed while writing."""

PATIENCE_SECONDS = 15
"""How long to wait for the lock of a killed run: its loader processes hold it until they notice, every few seconds."""


class FolderInUse(ValueError):  # noqa: N818 - a public name, caught by scripts
    """Another run is using the folder."""


def has_run(folder: Path) -> bool:
    """Return whether a training has started in the folder: it has metrics or a checkpoint."""
    metrics = folder / "metrics.json"
    return (
        (folder / "last_checkpoint").exists()
        or (metrics.is_file() and metrics.stat().st_size > 0)
        or any(folder.glob("model_*.pth"))
    )


def numbered(folder: Path) -> Iterator[Path]:
    """Yield the folder, then the same name with _2, _3, ..., without end."""
    yield folder
    number = 2
    while True:
        yield folder.with_name(f"{folder.name}_{number}")
        number += 1


def latest_run(folder: Path) -> Path:
    """Return the last of the folder and its numbered successors that holds a run; the folder itself if none does."""
    found = folder
    for candidate in numbered(folder):
        if not candidate.exists():
            return found
        if has_run(candidate):
            found = candidate
    return found


def evaluation_folder(run: Path, weights: str) -> Path:
    """Create a new folder for an evaluation of ``weights`` below the folder of the run, and return it."""
    stem = re.sub(r"[^\w.-]+", "_", Path(weights).stem) or "model"
    for candidate in numbered(run / "eval" / stem):
        with contextlib.suppress(FileExistsError):
            candidate.mkdir(parents=True)
            return candidate
    raise AssertionError("numbered() never ends")


def with_output_dir(cfg: "CfgNode", folder: Path) -> "CfgNode":
    """Return a frozen copy of the config with the folder as OUTPUT_DIR."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(folder)
    cfg.freeze()
    return cfg


@contextlib.contextmanager
def claimed(folder: Path, *, named: bool, resume: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """Choose, create and lock the folder for a training; the lock is held until the context ends.

    Args:
        folder: the folder asked for.
        named: whether the user named it. Otherwise the next free number is used, and resuming uses the last run.
        resume: continue the run that is there.
        overwrite: remove what an earlier run wrote there.

    Yields:
        The folder to write to.

    Raises:
        ValueError: the folder holds an earlier run.
        FolderInUse: another process is using the folder.
        OSError: the folder cannot be written.
    """
    if resume and not named:
        folder = latest_run(folder)
    fixed = named or resume or overwrite
    for candidate in (folder,) if fixed else numbered(folder):
        if not resume and not overwrite and has_run(candidate):
            if not named:
                continue
            raise ValueError(
                f"{candidate} holds an earlier run. --resume continues it, --overwrite removes it, a different "
                "OUTPUT_DIR (or --name) leaves it alone"
            )
        candidate.mkdir(parents=True, exist_ok=True)
        try:
            lock = locked(candidate)
        except FolderInUse:
            if fixed:
                raise
            continue
        with lock:
            clear(candidate, RECORD if overwrite and not resume else UNFINISHED)
            yield candidate
        return


def clear(folder: Path, patterns: tuple[str, ...]) -> None:
    """Remove the files that match the patterns, and those that killed runs left unfinished."""
    for pattern in {*patterns, *UNFINISHED}:
        for file in folder.glob(pattern):
            if file.is_file():
                file.unlink(missing_ok=True)


def keep_latest(folder: Path, count: int) -> None:
    """Remove all but the latest ``count`` checkpoints of SOLVER.CHECKPOINT_PERIOD in the folder.

    Those that the run wrote before it was resumed count as well.
    """
    found = sorted(file for file in folder.iterdir() if CHECKPOINT.fullmatch(file.name))
    for file in found[: max(0, len(found) - count)]:
        file.with_name(f"{file.name}.sha256").unlink(missing_ok=True)
        file.unlink(missing_ok=True)


def locked(folder: Path) -> TextIO:
    """Lock a folder and return its lock file; the lock is released when the file is closed or the process ends.

    Raises:
        FolderInUse: another process holds the lock.
    """
    file = open(folder / LOCK, "a+", encoding="utf-8")  # noqa: SIM115 - the open file is the lock, so it is returned
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _try(file):
        file.seek(0)
        host, _, pid = file.read().strip().partition(" ")
        if _may_run(host, pid) or time.monotonic() > deadline:
            file.close()
            raise FolderInUse(
                f"another run is using {folder} (process {pid or 'unknown'} on {host or 'an unknown machine'}): wait "
                "for it to finish, or set a different OUTPUT_DIR"
            )
        time.sleep(0.2)
    file.seek(0)
    file.truncate()
    file.write(f"{socket.gethostname()} {os.getpid()}\n")
    file.flush()
    return file


def _try(file: TextIO) -> bool:
    """Take the lock and return True, or return False if it is taken. The module for it depends on the system."""
    try:
        import fcntl
    except ImportError:
        import importlib

        msvcrt: Any = importlib.import_module("msvcrt")  # exists on Windows only, so its type is not known elsewhere
        try:
            file.seek(1 << 30)  # beyond the text: a locked range cannot be read on Windows
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _may_run(host: str, pid: str) -> bool:
    """Return whether the process that wrote the lock may be running; False only if it is known to be gone."""
    if host != socket.gethostname() or not pid.isdigit() or os.name == "nt":
        return bool(host)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
