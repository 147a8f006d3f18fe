"""One run of a sweep in a process of its own: ``python -m retina_plugin.ablation.worker FOLDER PARENT``."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from retina_plugin.config import import_modules
from retina_plugin.engine import argument_parser, exit_code, run
from retina_plugin.engine.summary import SUMMARY

PLAN, RUNNING, FAILED, LOG = "plan.json", "running", "failed.txt", "output.txt"
"""Files of a run's folder: what to run; there while it runs; why it failed; what it printed."""


def start_worker(folder: Path, *, threads: int = 0, keep_open: tuple[int, ...] = ()) -> int:
    """Run what ``plan.json`` of the folder says, in another process; returns its exit code when it has ended.

    Args:
        folder: of the run; "running" is there meanwhile, and "failed.txt" afterwards if it failed.
        threads: of the CPU; 0: as torch decides.
        keep_open: file descriptors that the process inherits.
    """
    env = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    (folder / FAILED).unlink(missing_ok=True)
    with open(folder / LOG, "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), str(os.getpid())],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=env,
            **({"pass_fds": keep_open} if os.name == "posix" else {}),
        )
        (folder / RUNNING).write_text(str(process.pid), encoding="utf-8")
        try:
            code = process.wait()
        except BaseException:  # Ctrl-C: the run has to end with its sweep
            process.terminate()
            process.wait()
            raise
        finally:
            (folder / RUNNING).unlink(missing_ok=True)
    if code or not (folder / SUMMARY).exists():
        lines = [
            line for line in (folder / LOG).read_text(errors="replace", encoding="utf-8").splitlines() if line.strip()
        ]
        (folder / FAILED).write_text(f"exit code {code}: {lines[-1] if lines else 'printed nothing'}", encoding="utf-8")
    return code


def _end_with(parent: int) -> None:
    """Without who started it nobody would know of this run: a second one could begin in its folder."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main(folder: Path, parent: int) -> None:
    """Train, or go on training, as long as the process ``parent`` is there."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    import_modules(
        plan.get("imports", []), places=plan.get("places", [])
    )  # this process may have another working directory than the sweep
    # What began without getting as far as a checkpoint begins again.
    begun = "--resume" if any(folder.glob("model_*.pth")) else "--overwrite"
    args = argument_parser().parse_args(
        ["--config-file", plan["config_file"], "--num-gpus", str(plan["num_gpus"]), begun]
    )
    args.opts = plan["opts"]
    run(args)


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(Path(sys.argv[1]), int(sys.argv[2]))))
