"""Folders of runs: whose they are, and that nothing in them is overwritten."""

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

LOCK = ".lock"
CHECKPOINT = re.compile(r"model_\d{7}\.pth")
"""Names of the checkpoints of SOLVER.CHECKPOINT_PERIOD."""

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
    "model.txt",
    "events.out.tfevents.*",
)
"""What a run writes into its folder, and ``--overwrite`` removes."""

UNFINISHED = ("*.unfinished.pth", "*.tmp")
"""What a run that was killed while it wrote leaves behind."""

PATIENCE_SECONDS = 15
"""How long the loading processes of a run that was killed may hold its lock: they notice every few seconds that it is gone."""


class FolderInUse(ValueError):
    """Another run is at work in the folder."""


def has_run(folder: Path) -> bool:
    """Whether a training began in the folder: it has figures or a checkpoint."""
    metrics = folder / "metrics.json"
    return (
        (folder / "last_checkpoint").exists()
        or (metrics.is_file() and metrics.stat().st_size > 0)
        or any(folder.glob("model_*.pth"))
    )


def numbered(folder: Path) -> Iterator[Path]:
    """The folder, then the same name with _2, _3, ..."""
    yield folder
    number = 2
    while True:
        yield folder.with_name(f"{folder.name}_{number}")
        number += 1


def latest_run(folder: Path) -> Path:
    """Of the folder and its numbered followers the last that holds a run; the folder itself if none does."""
    found = folder
    for candidate in numbered(folder):
        if not candidate.exists():
            return found
        if has_run(candidate):
            found = candidate
    return found


def evaluation_folder(run: Path, weights: str) -> Path:
    """Where an evaluation of ``weights`` writes: below the folder of the run, and over no earlier one. The folder is made."""
    stem = re.sub(r"[^\w.-]+", "_", Path(weights).stem) or "model"
    for candidate in numbered(run / "eval" / stem):
        with contextlib.suppress(FileExistsError):
            candidate.mkdir(parents=True)
            return candidate
    raise AssertionError("numbers do not end")


@contextlib.contextmanager
def claimed(folder: Path, *, named: bool, resume: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """The folder that a training is to write to, locked as long as it lasts.

    Args:
        folder: that is wanted.
        named: by the user; a folder that the tool chose gets the next free number, and resuming takes the last.
        resume: go on with the run that is there.
        overwrite: remove what an earlier run wrote there.

    Raises:
        ValueError: an earlier run is there.
        FolderInUse: another process is at work there.
        OSError: it cannot be written.
    """
    if resume and not named:
        folder = latest_run(folder)
    for candidate in numbered(folder) if not (named or resume or overwrite) else (folder,):
        if not resume and not overwrite and has_run(candidate):
            if not named:
                continue
            raise ValueError(
                f"{candidate} holds an earlier run. --resume goes on with it, --overwrite removes it, another OUTPUT_DIR (or --name) leaves it alone"
            )
        candidate.mkdir(parents=True, exist_ok=True)
        try:
            lock = locked(candidate)
        except FolderInUse:
            if named or resume or overwrite:
                raise
            continue
        with lock:
            clear(candidate, RECORD if overwrite and not resume else UNFINISHED)
            yield candidate
        return


def clear(folder: Path, patterns: tuple[str, ...]) -> None:
    """Remove the files of these patterns, those that killed runs left unfinished too."""
    for pattern in {*patterns, *UNFINISHED}:
        for file in folder.glob(pattern):
            if file.is_file():
                file.unlink(missing_ok=True)


def keep_latest(folder: Path, count: int) -> None:
    """Remove all checkpoints of SOLVER.CHECKPOINT_PERIOD in the folder, whichever start of the run wrote them, but the latest ``count``."""
    found = sorted(file for file in folder.iterdir() if CHECKPOINT.fullmatch(file.name))
    for file in found[: max(0, len(found) - count)]:
        file.with_name(f"{file.name}.sha256").unlink(missing_ok=True)
        file.unlink(missing_ok=True)


def locked(folder: Path) -> TextIO:
    """The lock file of a folder, held until it is closed or the process ends, whatever ends it.

    Raises:
        FolderInUse: another process has it.
    """
    file = open(folder / LOCK, "a+", encoding="utf-8")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _try(file):
        file.seek(0)
        host, _, pid = file.read().strip().partition(" ")
        if _works(host, pid) or time.monotonic() > deadline:
            file.close()
            raise FolderInUse(
                f"another run is at work in {folder} (process {pid or 'unknown'} on {host or 'an unknown machine'}): wait for it, or give another OUTPUT_DIR"
            )
        time.sleep(0.2)
    file.seek(0)
    file.truncate()
    file.write(f"{socket.gethostname()} {os.getpid()}\n")
    file.flush()
    return file


def _try(file: TextIO) -> bool:
    """Take the lock if it is free. Systems have it in different modules."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        try:
            file.seek(1 << 30)  # a place that is not read: a locked one cannot be on Windows
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _works(host: str, pid: str) -> bool:
    """Whether the process that wrote the lock may be there; False only if it is known to be gone."""
    if host != socket.gethostname() or not pid.isdigit() or os.name == "nt":
        return bool(host)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
