"""Runs what a sweep still lacks, one after another or through Ray, and shows how far it is."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import yaml

from retina_plugin.ablation.sweep import Run, Sweep
from retina_plugin.ablation.worker import FAILED, PLAN, RUNNING, start_worker
from retina_plugin.config import all_keys, config_from_text, dump_config, get_key
from retina_plugin.config.imports import place_of
from retina_plugin.engine.folder import FolderInUse, locked
from retina_plugin.engine.summary import SUMMARY

Executor = Callable[[list[Path]], None]
"""Runs the workers of the folders, and returns when all have ended."""


def run_sweep(
    sweep: Sweep, output: str | os.PathLike, *, executor: Executor | None = None, num_gpus: int = 0
) -> list[Path]:
    """Run all that is not finished yet; a finished run is left as it is, an interrupted one goes on.

    Args:
        sweep: from :func:`retina_plugin.ablation.load_sweep`.
        output: folder of the sweep; each run has one of its own below it.
        executor: without it the runs go one after another in processes of their own.
        num_gpus: that a run uses, as in ``train_net.py --num-gpus``.

    Returns:
        The folders of the runs, in the order of ``sweep.runs``. A failed one holds "failed.txt".

    Raises:
        ValueError: a run cannot work, or its folder holds a finished run of another config.
        RuntimeError: another process is at work in ``output``.
    """
    sweep.check()
    output = Path(output).resolve()  # a cluster's other machines have other working directories
    output.mkdir(parents=True, exist_ok=True)
    with _only_one(output) as lock:
        folders = [output / run.name(tuple(sweep.axes)) for run in sweep.runs]
        differing = [
            message
            for run, folder in zip(sweep.runs, folders, strict=True)
            if (message := _other_config(sweep, run, folder))
        ]
        if differing:
            raise ValueError(
                "\n".join([f"{output} holds runs of another config; give another --output or remove them:", *differing])
            )
        for run, folder in zip(sweep.runs, folders, strict=True):
            _plan(sweep, run, folder, num_gpus)
        todo = [folder for folder in folders if not (folder / SUMMARY).exists()]
        with _progress(sweep.name, folders, sys.stderr):
            (executor or in_order(keep_open=(lock,)))(todo)
    return folders


def in_order(*, threads: int = 0, keep_open: tuple[int, ...] = ()) -> Executor:
    """One run after another."""

    def execute(folders: list[Path]) -> None:
        for folder in folders:
            start_worker(folder, threads=threads, keep_open=keep_open)

    return execute


def on_ray(*, cpus_per_run: float, gpus_per_run: float, address: str | None = None) -> Executor:
    """As many runs at once as fit, on this machine or, with ``address``, on a Ray cluster that shares the folder.

    Args:
        cpus_per_run, gpus_per_run: what Ray keeps for a run.
        address: of the cluster, such as "auto"; None starts Ray on this machine.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("parallel runs need Ray: pip install 'retina-plugin[ray]'") from error

    def execute(folders: list[Path]) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
        threads = 0 if gpus_per_run else max(1, int(cpus_per_run))
        task = ray.remote(num_cpus=cpus_per_run, num_gpus=gpus_per_run, max_retries=0)(start_worker)
        try:
            folder_of = {task.remote(folder, threads=threads): folder for folder in folders}
            waiting = list(folder_of)
            while waiting:
                (done, *_), waiting = ray.wait(waiting)
                try:
                    ray.get(done)
                except ray.exceptions.RayError as error:  # a node that went away, say: the other runs go on
                    (folder_of[done] / FAILED).write_text(str(error), encoding="utf-8")
        finally:
            ray.shutdown()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray's own would end whoever goes on

    return execute


def _plan(sweep: Sweep, run: Run, folder: Path, num_gpus: int) -> None:
    """Write what the worker has to do, and forget what an earlier attempt left."""
    folder.mkdir(exist_ok=True)
    for name in (RUNNING, FAILED):
        (folder / name).unlink(missing_ok=True)
    options = {**run.options, "OUTPUT_DIR": str(folder)}
    cfg = sweep.config(run, folder)
    modules = cfg.IMPORTS
    plan = {
        "config_file": str(sweep.base.resolve()),
        "num_gpus": num_gpus,
        "opts": [str(word) for pair in options.items() for word in pair],
        "imports": list(modules),
        "places": sorted({place for name in modules if (place := place_of(name))}),
    }
    (folder / PLAN).write_text(json.dumps(plan, indent=1), encoding="utf-8")


def _other_config(sweep: Sweep, run: Run, folder: Path) -> str | None:
    """How the config of a run that began in ``folder`` differs from the one that is wanted there, or None.

    Keys that have been added since have their defaults there.
    """
    file = folder / "config.yaml"
    if not file.exists():
        return None
    texts = file.read_text(encoding="utf-8"), dump_config(sweep.config(run, folder))
    old, new = (
        {key: get_key(cfg, key) for key in all_keys(cfg)}
        for cfg in (config_from_text(text, source=str(file)) for text in texts)
    )
    changed = [
        f"{key} {old.get(key)} -> {new.get(key)}"
        for key in sorted({*old, *new} - {"OUTPUT_DIR"})
        if old.get(key) != new.get(key)
    ]
    return f"  {folder.name}: {', '.join(changed)}" if changed else None


@contextlib.contextmanager
def _only_one(output: Path) -> Iterator[int]:
    """Hold a lock on the folder of the sweep; yields its file descriptor, which the runs inherit."""
    try:
        lock = locked(output)
    except FolderInUse:
        raise RuntimeError(f"another process is at work in {output}: wait for it, or give another --output") from None
    with lock:
        yield lock.fileno()


@contextlib.contextmanager
def _progress(name: str, folders: list[Path], stream: TextIO) -> Iterator[None]:
    """Say on ``stream``, as long as it lasts, how far the runs are."""
    stop = threading.Event()
    begin, done_before = time.time(), sum((folder / SUMMARY).exists() for folder in folders)

    def show() -> None:
        said = ""
        while True:
            last = stop.wait(1.0)
            line = progress_line(name, folders, begin=begin, done_before=done_before)
            if stream.isatty():
                stream.write(f"\r\033[K{line}" + ("\n" if last else ""))
            elif (
                counts := line.partition("; ETA")[0].partition(" (")[0]
            ) != said or last:  # a line for every change is enough for a file
                said = counts
                stream.write(line + "\n")
            stream.flush()
            if last:
                return

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def progress_line(name: str, folders: list[Path], *, begin: float, done_before: int) -> str:
    """How far a sweep is, from the folders of its runs.

    Args:
        name: of the sweep.
        folders: of all runs.
        begin: when this start of the sweep began, seconds since the epoch.
        done_before: runs that were finished then.
    """
    finished = {folder for folder in folders if (folder / SUMMARY).exists()}
    running = [folder for folder in folders if folder not in finished and (folder / RUNNING).exists()]
    failed = [
        folder.name
        for folder in folders
        if folder not in finished and folder not in running and (folder / FAILED).exists()
    ]
    done = len(finished)
    shares = [_share(folder) for folder in running]
    line = f"{name}: {done} of {len(folders)} done"
    if running:
        line += ", running " + ", ".join(
            f"{folder.name} ({100 * share:.0f} %)" for folder, share in zip(running, shares, strict=True)
        )
    if failed:
        line += f", {len(failed)} failed ({failed[-1]}{', ...' if len(failed) > 1 else ''})"
    made = done - done_before + len(failed) + sum(shares)
    left = len(folders) - done - len(failed) - sum(shares)
    if running and made > 0:
        minutes = (time.time() - begin) / made * max(0, left) / 60
        line += f"; ETA {minutes:.0f} min"
    return line


def _share(folder: Path) -> float:
    """How much of its iterations a run has done, 0..1, from the last line of its metrics."""
    try:
        last = json.loads((folder / "metrics.json").read_text(encoding="utf-8").splitlines()[-1])
        return min(
            1.0,
            (last["iteration"] + 1)
            / yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["SOLVER"]["MAX_ITER"],
        )
    except (OSError, IndexError, ValueError, KeyError):
        return 0.0
