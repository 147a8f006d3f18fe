"""Sweeps: many runs from one YAML file, and a table of their results."""

from retina_plugin.ablation.runner import run_sweep
from retina_plugin.ablation.sweep import Run, Sweep, load_sweep
from retina_plugin.ablation.table import SweepTable, collect

__all__ = ["Run", "Sweep", "SweepTable", "collect", "load_sweep", "run_sweep"]
