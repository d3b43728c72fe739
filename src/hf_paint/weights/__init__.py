"""Weights on disk: read headers, check compatibility, and interpolate from file to file without torch."""

from hf_paint.weights.changes import measure_weight_changes
from hf_paint.weights.checkpoints import combine_checkpoints, interpolate_checkpoints
from hf_paint.weights.headers import read_checkpoint
from hf_paint.weights.layers import layer_index


__all__ = [
    "combine_checkpoints",
    "interpolate_checkpoints",
    "layer_index",
    "measure_weight_changes",
    "read_checkpoint",
]
