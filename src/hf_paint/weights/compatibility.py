"""Can models be interpolated? Names, shapes, dtypes and coefficients are checked before any arithmetic. No torch."""

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from hf_paint.errors import InputError


if TYPE_CHECKING:
    from torch import Tensor

TensorSpec = tuple[str, tuple[int, ...]]
"""The dtype and the shape of a tensor, such as `("float32", (512, 768))`."""


def check_compatible(
    theta_0: Mapping[str, TensorSpec], theta_1: Mapping[str, TensorSpec], name: str = "theta_1"
) -> None:
    """Check that two sets of weights have the same tensors: equal names, shapes and dtypes.

    It says nothing about whether interpolating them makes sense: two models of one architecture that do not share a
    training history are compatible here and useless on the line between them.

    Args:
        theta_0: name -> (dtype, shape) of the model before fine-tuning.
        theta_1: name -> (dtype, shape) of the model after fine-tuning.
        name: What messages call the model after fine-tuning.

    Raises:
        InputError: If anything differs; the message names the first tensors.

    Example:
        >>> check_compatible({"w": ("float32", (2, 3))}, {"w": ("float32", (2, 3))})
    """
    _refuse(name, "are only in theta_0", sorted(theta_0.keys() - theta_1.keys()))
    _refuse(name, f"are only in {name}", sorted(theta_1.keys() - theta_0.keys()))
    for position, what in ((1, "shape"), (0, "dtype")):
        differing = [
            f"{tensor} ({theta_0[tensor][position]} against {theta_1[tensor][position]})"
            for tensor in theta_0
            if theta_0[tensor][position] != theta_1[tensor][position]
        ]
        _refuse(name, f"differ in {what}", differing)


def check_alpha(alpha: float, *, extrapolate: bool = False) -> None:
    """Refuse an alpha that is not a finite number in [0, 1] (any finite number with `extrapolate`)."""
    if not math.isfinite(alpha) or not (extrapolate or 0 <= alpha <= 1):
        raise InputError(f"alpha must be in [0, 1], got {alpha}. To go beyond, ask for it: `extrapolate`.")


def check_coefficients(thetas: Collection[str], alphas: Mapping[str, float]) -> None:
    """Refuse coefficients that are not one finite number for each model."""
    if set(thetas) != alphas.keys():
        raise InputError(f"Each model needs one coefficient: the models are {sorted(thetas)}, got {sorted(alphas)}.")
    for name, alpha in alphas.items():
        if not math.isfinite(alpha):
            raise InputError(f"The coefficient of '{name}' must be a finite number, got {alpha}.")


def _refuse(name: str, problem: str, tensors: list[str]) -> None:
    if tensors:
        more = f" and {len(tensors) - 3} more" if len(tensors) > 3 else ""
        raise InputError(
            f"theta_0 and {name} cannot be interpolated: {len(tensors)} tensors {problem}: "
            f"{', '.join(tensors[:3])}{more}. Both must come from the same base model."
        )


def tensor_specs(theta: Mapping[str, "Tensor"]) -> dict[str, TensorSpec]:
    """Return name -> (dtype, shape), the part of the weights that decides whether they fit together."""
    return {name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for name, tensor in theta.items()}
