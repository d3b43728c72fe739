"""Check that weights have the same names, shapes and dtypes, and that coefficients are valid."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from hf_paint.errors import InputError
from hf_paint.weights.headers import FLOATS


class TensorLike(Protocol):
    """Anything with a dtype and a shape, e.g. a tensor in memory or the header of a stored tensor."""

    @property
    def dtype(self) -> object:
        """Data type, e.g. `torch.float32` or `F32`."""

    @property
    def shape(self) -> Sequence[int]:
        """Shape of the tensor."""


def check_compatible(
    theta_0: Mapping[str, TensorLike],
    theta_1: Mapping[str, TensorLike],
    name: str = "theta_1",
    *,
    any_float: bool = False,
) -> None:
    """Check that two models have tensors with the same names, shapes and dtypes.

    This does not mean that interpolating them makes sense: models with the same architecture always pass, but if they
    do not share part of their training history, the models between them are useless.

    Args:
        theta_0: Weights before fine-tuning: name -> anything with a `dtype` and a `shape`.
        theta_1: Weights after fine-tuning.
        name: Name of the fine-tuned model to use in error messages.
        any_float: Treat all floating-point dtypes as equal. Only applies to dtypes from file headers.

    Raises:
        InputError: If a name, shape or dtype differs. The message lists the first few tensors.

    Example:
        >>> check_compatible({"w": torch.zeros(2, 3)}, {"w": torch.ones(2, 3)})
    """
    theta_0, theta_1 = headers_of(theta_0), headers_of(theta_1)
    _refuse(name, "are only in theta_0", sorted(theta_0.keys() - theta_1.keys()))
    _refuse(name, f"are only in {name}", sorted(theta_1.keys() - theta_0.keys()))
    specs = {tensor: (_spec(theta_0[tensor], any_float), _spec(theta_1[tensor], any_float)) for tensor in theta_0}
    for kind in ("shape", "dtype"):
        differing = [
            f"{tensor} ({spec_0[kind]} and {spec_1[kind]})"
            for tensor, (spec_0, spec_1) in specs.items()
            if spec_0[kind] != spec_1[kind]
        ]
        _refuse(name, f"differ in {kind}", differing)


def headers_of(weights: Mapping[str, TensorLike]) -> Mapping[str, TensorLike]:
    """Return what knows the dtype and shape of each tensor: the `headers` of weights on disk, which are not read."""
    headers: Mapping[str, TensorLike] = getattr(weights, "headers", weights)
    return headers


def check_alpha(alpha: float, *, extrapolate: bool = False) -> None:
    """Check that alpha is finite and, unless `extrapolate` is set, in [0, 1].

    Raises:
        InputError: If alpha is out of range or not finite.
    """
    if not math.isfinite(alpha) or not (extrapolate or 0 <= alpha <= 1):
        raise InputError(f"alpha must be in [0, 1], got {alpha}. Pass `extrapolate` to allow other finite numbers.")


def check_coefficients(thetas: Collection[str], alphas: Mapping[str, float]) -> None:
    """Check that each model has exactly one coefficient, and that all coefficients are finite.

    Raises:
        InputError: If models and coefficients do not match, or a coefficient is not finite.
    """
    if set(thetas) != alphas.keys():
        raise InputError(
            f"Each model needs one coefficient: the models are {sorted(thetas)}, but coefficients were given for "
            f"{sorted(alphas)}."
        )
    for name, alpha in alphas.items():
        if not math.isfinite(alpha):
            raise InputError(f"The coefficient of '{name}' must be a finite number, got {alpha}.")


def _spec(tensor: TensorLike, any_float: bool) -> dict[str, object]:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return {"shape": tuple(tensor.shape), "dtype": "floating-point" if any_float and dtype in FLOATS else dtype}


def _refuse(name: str, problem: str, tensors: list[str]) -> None:
    if tensors:
        more = f" and {len(tensors) - 3} more" if len(tensors) > 3 else ""
        raise InputError(
            f"theta_0 and {name} cannot be interpolated: {len(tensors)} tensors {problem}: "
            f"{', '.join(tensors[:3])}{more}. Both must come from the same base model."
        )
