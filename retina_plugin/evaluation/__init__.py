"""What becomes of an evaluation."""

from .table import format_results, write_results

__all__ = ["format_results", "write_results"]
