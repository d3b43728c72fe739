"""Checks before any arithmetic: equal names, shapes and dtypes, and valid coefficients."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from hf_paint.errors import InputError
from hf_paint.weights.headers import FLOATS


class TensorLike(Protocol):
    """A tensor in memory, or the header of a tensor in a file."""

    @property
    def dtype(self) -> object:
        """The dtype, such as `torch.float32` or `F32`."""

    @property
    def shape(self) -> Sequence[int]:
        """The shape."""


def check_compatible(
    theta_0: Mapping[str, TensorLike],
    theta_1: Mapping[str, TensorLike],
    name: str = "theta_1",
    *,
    any_float: bool = False,
) -> None:
    """Check that two models have tensors of the same names, shapes and dtypes.

    Passing this check does not make interpolation useful: two models of one architecture without a common training
    history pass, but the line between them is useless.

    Args:
        theta_0: The weights before fine-tuning: name -> anything with a `dtype` and a `shape`.
        theta_1: The weights after fine-tuning.
        name: The name of the fine-tuned model in messages.
        any_float: Accept headers of different floating-point dtypes, which can be converted.

    Raises:
        InputError: If a name, shape or dtype differs; the message lists the first tensors.

    Example:
        >>> check_compatible({"w": torch.zeros(2, 3)}, {"w": torch.ones(2, 3)})
    """
    _refuse(name, "are only in theta_0", sorted(theta_0.keys() - theta_1.keys()))
    _refuse(name, f"are only in {name}", sorted(theta_1.keys() - theta_0.keys()))
    specs = {  # not the tensors: they may be read from disk, and need not all fit into memory
        tensor: (_spec(theta_0[tensor], any_float), _spec(theta_1[tensor], any_float)) for tensor in theta_0
    }
    for kind in ("shape", "dtype"):
        differing = [
            f"{tensor} ({spec_0[kind]} against {spec_1[kind]})"
            for tensor, (spec_0, spec_1) in specs.items()
            if spec_0[kind] != spec_1[kind]
        ]
        _refuse(name, f"differ in {kind}", differing)


def check_alpha(alpha: float, *, extrapolate: bool = False) -> None:
    """Check that alpha is a finite number, and in [0, 1] unless `extrapolate`.

    Raises:
        InputError: If it is not.
    """
    if not math.isfinite(alpha) or not (extrapolate or 0 <= alpha <= 1):
        raise InputError(f"alpha must be in [0, 1], got {alpha}. Pass `extrapolate` to go beyond.")


def check_coefficients(thetas: Collection[str], alphas: Mapping[str, float]) -> None:
    """Check that each model has one finite coefficient.

    Raises:
        InputError: If a model has none, or a coefficient is not finite.
    """
    if set(thetas) != alphas.keys():
        raise InputError(f"Each model needs one coefficient: the models are {sorted(thetas)}, got {sorted(alphas)}.")
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
