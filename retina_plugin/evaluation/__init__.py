"""What becomes of an evaluation."""

from .evaluator import BoxEvaluator
from .hotcoco import HotCocoEvaluator
from .table import format_results, write_results

EVALUATORS = {"hotcoco": HotCocoEvaluator, "detectron2": BoxEvaluator}
"""Values of TEST.EVALUATOR."""

__all__ = ["EVALUATORS", "BoxEvaluator", "HotCocoEvaluator", "format_results", "write_results"]
