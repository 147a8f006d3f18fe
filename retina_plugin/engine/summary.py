"""Summary of a run: its cost and its results in one small file."""

import json
import statistics
from pathlib import Path

import torch

from detectron2.config import CfgNode

from retina_plugin.engine.resume import json_lines
from retina_plugin.hardware import describe_hardware, peak_memory_mib

SUMMARY = "summary.json"
"""File name of the summary in the folder of a run."""


def write_summary(cfg: CfgNode, model: torch.nn.Module, results: dict[str, dict[str, float]]) -> Path:
    """Write ``summary.json`` to OUTPUT_DIR and return its path.

    It is written last, so its presence shows that the run has finished. It holds "results"; "iterations";
    "images_per_second" in training, from the median time of an iteration, None if none was timed; "parameters" and
    "trained_parameters"; "peak_memory_mib", of the GPU's allocator, or resident memory of the process on a CPU;
    "machine" and "precision".

    Args:
        cfg: config of the run.
        model: the detector, without a wrapper.
        results: as the evaluator returned them.
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
    """Return the median time of an iteration, in seconds; None if none was timed.

    Args:
        metrics: ``metrics.json`` of a run; lines from before a resume count, incomplete lines do not.
    """
    times = [value for line in json_lines(metrics) if isinstance(value := line.get("time"), int | float) and value > 0]
    return statistics.median(times) if times else None
