"""Execution of a sweep's unfinished runs, one after another or through Ray, with progress reports."""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import yaml

from retina_plugin.ablation.sweep import Run, Sweep
from retina_plugin.ablation.worker import FAILED, PLAN, RUNNING, start_worker
from retina_plugin.config import all_keys, config_from_text, dump_config, get_key
from retina_plugin.config.imports import place_of
from retina_plugin.engine.folder import FolderInUse, locked
from retina_plugin.engine.summary import SUMMARY

Executor = Callable[[list[Path]], None]
"""A function that runs the workers of the folders, and returns when all have ended."""


def run_sweep(
    sweep: Sweep, output: str | os.PathLike, *, executor: Executor | None = None, num_gpus: int = 0
) -> list[Path]:
    """Run what is not finished yet; finished runs are left unchanged, interrupted ones continue.

    Args:
        sweep: from :func:`retina_plugin.ablation.load_sweep`.
        output: folder of the sweep; each run gets a folder inside it.
        executor: runs the workers; None runs them one after another, each in its own process.
        num_gpus: GPUs per run, as in ``train_net.py --num-gpus``.

    Returns:
        The folders of the runs, in the order of ``sweep.runs``. That of a failed run contains "failed.txt".

    Raises:
        ValueError: a run has an invalid config, or its folder holds a run of a different config.
        RuntimeError: a different process is running in ``output``.
    """
    sweep.check()
    output = Path(output).resolve()  # a cluster's other machines have other working directories
    output.mkdir(parents=True, exist_ok=True)
    with _only_one(output) as lock:
        folders = [output / run.name(tuple(sweep.axes)) for run in sweep.runs]
        found = [_other_config(sweep, run, folder) for run, folder in zip(sweep.runs, folders, strict=True)]
        if differing := [message for message in found if message]:
            head = f"{output} holds runs of a different config; choose a different --output or remove them:"
            raise ValueError("\n".join([head, *differing]))
        for run, folder in zip(sweep.runs, folders, strict=True):
            _plan(sweep, run, folder, num_gpus)
        todo = [folder for folder in folders if not (folder / SUMMARY).exists()]
        with _progress(sweep.name, folders, sys.stderr):
            (executor or in_order(keep_open=(lock,)))(todo)
    return folders


def in_order(*, threads: int = 0, keep_open: tuple[int, ...] = ()) -> Executor:
    """Return an executor that runs one worker after another.

    Args:
        threads: CPU threads per run; 0 leaves the number to PyTorch.
        keep_open: file descriptors that the workers inherit.
    """

    def execute(folders: list[Path]) -> None:
        """Run the workers of the folders in order."""
        for folder in folders:
            start_worker(folder, threads=threads, keep_open=keep_open)

    return execute


def on_ray(*, cpus_per_run: float, gpus_per_run: float, address: str | None = None) -> Executor:
    """Return an executor that runs as many workers at once as resources allow.

    They run on this machine or, with ``address``, on a Ray cluster whose machines share the folder.

    Args:
        cpus_per_run: CPUs that Ray reserves for a run.
        gpus_per_run: GPUs that Ray reserves for a run.
        address: address of the cluster, such as "auto"; None starts Ray on this machine.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("parallel runs need Ray: pip install 'retina-plugin[ray]'") from error

    def execute(folders: list[Path]) -> None:
        """Run the workers of the folders as tasks of Ray."""
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        threads = 0 if gpus_per_run else max(1, int(cpus_per_run))
        task: Any = ray.remote(num_cpus=cpus_per_run, num_gpus=gpus_per_run, max_retries=0)(start_worker)
        try:
            folder_of = {task.remote(folder, threads=threads): folder for folder in folders}
            waiting = list(folder_of)
            while waiting:
                (done, *_), waiting = ray.wait(waiting)
                try:
                    ray.get(done)
                except ray.exceptions.RayError as error:  # such as a lost node; the other runs continue
                    (folder_of[done] / FAILED).write_text(str(error), encoding="utf-8")
        finally:
            ray.shutdown()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray's own would end this process

    return execute


def _plan(sweep: Sweep, run: Run, folder: Path, num_gpus: int) -> None:
    """Write the worker's plan, and remove what an earlier attempt left."""
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
    """Describe how the config of a run started in ``folder`` differs from the planned one; None if it does not.

    Keys that were added to the plugin since then have their defaults in the old config.
    """
    file = folder / "config.yaml"
    if not file.exists():
        return None
    texts = file.read_text(encoding="utf-8"), dump_config(sweep.config(run, folder))
    configs = [config_from_text(text, source=str(file)) for text in texts]
    old, new = ({key: get_key(cfg, key) for key in all_keys(cfg)} for cfg in configs)
    keys = [key for key in sorted({*old, *new} - {"OUTPUT_DIR"}) if old.get(key) != new.get(key)]
    if not keys:
        return None
    return f"  {folder.name}: {', '.join(f'{key} {old.get(key)} -> {new.get(key)}' for key in keys)}"


@contextlib.contextmanager
def _only_one(output: Path) -> Iterator[int]:
    """Hold a lock on the folder of the sweep, and yield its file descriptor, which the runs inherit."""
    try:
        lock = locked(output)
    except FolderInUse:
        raise RuntimeError(
            f"a different process is running in {output}: wait for it, or choose a different --output"
        ) from None
    with lock:
        yield lock.fileno()


@contextlib.contextmanager
def _progress(name: str, folders: list[Path], stream: TextIO) -> Iterator[None]:
    """Report the progress of the runs on ``stream`` while the context is active."""
    stop = threading.Event()
    begin, done_before = time.time(), sum((folder / SUMMARY).exists() for folder in folders)

    def show() -> None:
        """Write the progress once per second, or, to a file, whenever the counts change."""
        shown = ""
        while True:
            last = stop.wait(1.0)
            line = progress_line(name, folders, begin=begin, done_before=done_before)
            counts = line.partition("; ETA")[0].partition(" (")[0]
            if stream.isatty():
                stream.write(f"\r\033[K{line}" + ("\n" if last else ""))
            elif counts != shown or last:
                shown = counts
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
    """Describe the progress of a sweep in one line, from the folders of its runs.

    Args:
        name: name of the sweep.
        folders: folders of all runs.
        begin: when the sweep was last started, seconds since the epoch.
        done_before: runs that were finished at that time.
    """
    finished = {folder for folder in folders if (folder / SUMMARY).exists()}
    running = [folder for folder in folders if folder not in finished and (folder / RUNNING).exists()]
    ended = [folder for folder in folders if folder not in finished and folder not in running]
    failed = [folder.name for folder in ended if (folder / FAILED).exists()]
    done = len(finished)
    shares = [_share(folder) for folder in running]
    line = f"{name}: {done} of {len(folders)} done"
    if running:
        parts = [f"{folder.name} ({100 * share:.0f} %)" for folder, share in zip(running, shares, strict=True)]
        line += f", running {', '.join(parts)}"
    if failed:
        more = ", ..." if len(failed) > 1 else ""
        line += f", {len(failed)} failed ({failed[-1]}{more})"
    made = done - done_before + len(failed) + sum(shares)
    left = len(folders) - done - len(failed) - sum(shares)
    if running and made > 0:
        minutes = (time.time() - begin) / made * max(0, left) / 60
        line += f"; ETA {minutes:.0f} min"
    return line


def _share(folder: Path) -> float:
    """Return the share of its iterations that a run has done, 0..1, from the last line of its metrics."""
    try:
        last = json.loads((folder / "metrics.json").read_text(encoding="utf-8").splitlines()[-1])
        settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        return min(1.0, (last["iteration"] + 1) / settings["SOLVER"]["MAX_ITER"])
    except (OSError, IndexError, ValueError, KeyError):
        return 0.0
