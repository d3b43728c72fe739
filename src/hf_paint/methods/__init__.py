"""Methods: how fine-tuned weights become theta_1, and what lies between theta_0 and theta_1."""

from hf_paint.methods.base import Bench, Method, WeightPath
from hf_paint.methods.registry import METHODS, MethodLike, read_method


__all__ = ["METHODS", "Bench", "Method", "MethodLike", "WeightPath", "read_method"]
