"""How far the fine-tuned models of a path are from theta_0, layer by layer."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from hf_paint.merging.path import WeightPath
from hf_paint.models.devices import to_float64
from hf_paint.weights.changes import WeightChanges, sum_changes
from hf_paint.weights.streaming import CHUNK


def measure_path(path: WeightPath) -> WeightChanges:
    """Compare the fine-tuned models of a path with its theta_0, a few megabytes at a time, in float64.

    Example:
        >>> from hf_paint.merging.path import Line
        >>> name = "visual_projection.weight"
        >>> changes = measure_path(Line({name: torch.ones(2, 2)}, {name: 2 * torch.ones(2, 2)}))
        >>> changes.norm("theta_1", "projection"), changes.relative_norm("theta_1"), changes.cosine_to_base("theta_1")
        (2.0, 1.0, 1.0)
    """
    return sum_changes(path.models, path.theta_0, _chunks(path))


def _chunks(path: WeightPath) -> Iterator[tuple[str, NDArray[np.float64]]]:
    thetas = path.inputs[: 1 + len(path.models)]
    for name in path.theta_0:
        tensors = [theta[name].detach().cpu().flatten() for theta in thetas]
        for parts in zip(*(tensor.split(CHUNK) for tensor in tensors), strict=True):
            yield name, torch.stack([to_float64(part) for part in parts]).numpy()
