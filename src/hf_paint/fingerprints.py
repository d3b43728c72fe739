"""Fingerprints: short names of weights, heads and data, which identify them in caches and records."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 16
"""Hexadecimal digits of a fingerprint (64 bits)."""


def fingerprint_weights(weights: Mapping[str, "Tensor"]) -> str:
    """Return a fingerprint of the names, dtypes, shapes and bytes of tensors, independent of order and device.

    Example:
        >>> fingerprint_weights({"w": torch.zeros(2)}) == fingerprint_weights({"w": torch.zeros(3)})
        False
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:LENGTH]


def fingerprint_values(*values: object) -> str:
    """Return a fingerprint of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:LENGTH]


def fingerprint_interpolation(theta_0: str, theta_1: str, alpha: float) -> str:
    """Return the fingerprint of theta_alpha from the fingerprints of theta_0 and theta_1."""
    if alpha in (0, 1):
        return theta_1 if alpha else theta_0
    return fingerprint_values(theta_0, theta_1, float(alpha))


def fingerprint_combination(theta_0: str, thetas: Mapping[str, str], alphas: Mapping[str, float]) -> str:
    """Return the fingerprint of `combine` from its models' fingerprints; for one model it equals `interpolate`'s."""
    parts = [(theta, float(alphas[model])) for model, theta in thetas.items() if alphas[model]]
    if len(parts) > 1:
        return fingerprint_values(theta_0, parts)
    return fingerprint_interpolation(theta_0, *parts[0]) if parts else theta_0
