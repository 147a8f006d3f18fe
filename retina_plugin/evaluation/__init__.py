"""What becomes of an evaluation."""

from .evaluator import BoxEvaluator
from .table import format_results, write_results

__all__ = ["BoxEvaluator", "format_results", "write_results"]
