"""Former names of modules: an import of one gives the module of today, with a warning."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

MOVED = {
    "retina_plugin.bench.cases": "retina_plugin.bench.benchmarks",
    "retina_plugin.bench.report": "retina_plugin.bench.results",
    "retina_plugin.bench.sides": "retina_plugin.bench.implementations",
    "retina_plugin.engine.arguments": "retina_plugin.arguments",
    "retina_plugin.engine.evaluating": "retina_plugin.engine.evaluation_hook",
    "retina_plugin.engine.run": "retina_plugin.engine.launch",
    "retina_plugin.engine.validation": "retina_plugin.engine.validation_loss",
    "retina_plugin.ablation.statistics": "retina_plugin.analysis.significance",
    "retina_plugin.evaluation.coverage": "retina_plugin.analysis.coverage",
    "retina_plugin.evaluation.evaluator": "retina_plugin.evaluation.coco",
    "retina_plugin.evaluation.focal": "retina_plugin.analysis.focal_loss",
    "retina_plugin.evaluation.table": "retina_plugin.evaluation.result_table",
    "retina_plugin.machine": "retina_plugin.hardware",
    "retina_plugin.report.anchors": "retina_plugin.report.anchor_page",
    "retina_plugin.report.run": "retina_plugin.report.run_page",
    "retina_plugin.report.statistics": "retina_plugin.report.dataset_page",
}
"""Former name -> name; a module that is listed here must not exist."""


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of :data:`MOVED`, after everything else has been asked."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for a former name, None for any other."""
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Import the module under its name of today, and warn."""
        today = MOVED[spec.name]
        warnings.warn(f"{spec.name} is now {today}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(today)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing but undo what the import system has changed: the module has been executed under its own name."""
        module.__spec__ = self.spec


def install_finder() -> None:
    """Let former names be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
