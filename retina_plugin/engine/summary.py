"""What a run cost and gave, in one small file."""

import json
import statistics
import sys
from pathlib import Path

import torch

from detectron2.config import CfgNode

from retina_plugin.engine.resume import json_lines
from retina_plugin.hardware import describe_hardware

SUMMARY = "summary.json"


def write_summary(cfg: CfgNode, model: torch.nn.Module, results: dict[str, dict[str, float]]) -> Path:
    """Write ``summary.json`` to OUTPUT_DIR, the last file of a run: where it is, the run is finished.

    It holds "results" as the evaluator returned them; "iterations"; "images_per_second" of training, from the
    median time of an iteration, None if none was timed; "parameters" and "trained_parameters"; "peak_memory_mib",
    of the GPU's allocator, or resident memory of the process on a CPU; "machine" and "precision".
    """
    folder = Path(cfg.OUTPUT_DIR)
    seconds = median_iteration_time(folder / "metrics.json")
    parameters = [(p.numel(), p.requires_grad) for p in model.parameters()]
    summary = {
        "results": results,
        "iterations": cfg.SOLVER.MAX_ITER,
        "images_per_second": cfg.SOLVER.IMS_PER_BATCH / seconds if seconds else None,
        "parameters": sum(n for n, _ in parameters),
        "trained_parameters": sum(n for n, trained in parameters if trained),
        "peak_memory_mib": peak_memory_mib(),
        "machine": describe_hardware(),
        "precision": str(getattr(model, "autocast_dtype", None) or torch.float32).removeprefix("torch."),
    }
    file = folder / SUMMARY
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    unfinished.replace(file)
    return file


def median_iteration_time(metrics: Path) -> float | None:
    """Seconds, from the whole lines of a run's ``metrics.json``, those of before a resume included; None without any."""
    times = [value for line in json_lines(metrics) if isinstance(value := line.get("time"), int | float) and value > 0]
    return statistics.median(times) if times else None


def peak_memory_mib() -> float:
    """The most that this process has held: of the GPU where there is one, else resident memory; 0 on systems that do not say."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows has no such module
        return 0.0
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 2**20 if sys.platform == "darwin" else kib / 2**10
