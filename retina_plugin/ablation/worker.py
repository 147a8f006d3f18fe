"""One run of a sweep in its own process: ``python -m retina_plugin.ablation.worker FOLDER PARENT``."""

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
"""Files in a run's folder: what to run; a marker while it runs; why it failed; what it printed."""


def start_worker(folder: Path, *, threads: int = 0, keep_open: tuple[int, ...] = ()) -> int:
    """Run the plan in a folder's ``plan.json`` in a new process, and return its exit code when it has ended.

    Args:
        folder: folder of the run; it contains "running" during the run, and "failed.txt" if the run failed.
        threads: CPU threads; 0 leaves the number to PyTorch.
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
            pass_fds=keep_open if os.name == "posix" else (),
        )
        (folder / RUNNING).write_text(str(process.pid), encoding="utf-8")
        try:
            code = process.wait()
        except BaseException:  # such as Ctrl-C: the run has to end with its sweep
            process.terminate()
            process.wait()
            raise
        finally:
            (folder / RUNNING).unlink(missing_ok=True)
    if code or not (folder / SUMMARY).exists():
        text = (folder / LOG).read_text(errors="replace", encoding="utf-8")
        lines = [line for line in text.splitlines() if line.strip()]
        (folder / FAILED).write_text(f"exit code {code}: {lines[-1] if lines else 'no output'}", encoding="utf-8")
    return code


def _end_with(parent: int) -> None:
    """End this process when its parent has ended; otherwise a second run could be started in its folder."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main(folder: Path, parent: int) -> None:
    """Train, or continue training, while the process ``parent`` exists."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    # The places are needed because this process may have a different working directory than the sweep.
    import_modules(plan.get("imports", []), places=plan.get("places", []))
    # A run that ended before its first checkpoint starts again.
    start = "--resume" if any(folder.glob("model_*.pth")) else "--overwrite"
    words = ["--config-file", plan["config_file"], "--num-gpus", str(plan["num_gpus"]), start]
    args = argument_parser().parse_args([*words, *(["--data", plan["data"]] if "data" in plan else [])])
    args.opts = plan["opts"]
    run(args)


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(Path(sys.argv[1]), int(sys.argv[2]))))
