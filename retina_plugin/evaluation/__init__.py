"""What becomes of an evaluation."""

from retina_plugin.registry import SlotRegistry

from .evaluator import BoxEvaluator
from .hotcoco import HotCocoEvaluator
from .lvis import LvisEvaluator
from .table import format_results, write_results
from .voc import VocEvaluator

EVALUATOR_REGISTRY = SlotRegistry("evaluator", "TEST.EVALUATOR", section="TEST.EVALUATORS")
"""``DatasetEvaluator`` classes of Detectron2; they get those of ``dataset_name``, ``output_dir``, ``detections_per_image`` and ``cfg`` that
their constructor names, and the options that they declare. ``evaluate()`` returns {task: {metric: value}}, on the main process."""

EVALUATOR_REGISTRY.register("hotcoco")(HotCocoEvaluator)
EVALUATOR_REGISTRY.register("detectron2")(BoxEvaluator)
EVALUATOR_REGISTRY.register("voc")(VocEvaluator)
EVALUATOR_REGISTRY.register("lvis")(LvisEvaluator)

__all__ = ["EVALUATOR_REGISTRY", "BoxEvaluator", "HotCocoEvaluator", "format_results", "write_results"]
