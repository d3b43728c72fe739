"""Runs beside each other: methods against tasks, and what fine-tuning changed (PAINT, Sections 3 and 4)."""

from hf_paint.comparison.compare import Comparison, compare_runs


__all__ = ["Comparison", "compare_runs"]
