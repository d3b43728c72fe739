"""Weight interpolation: `theta_alpha = (1 - alpha) * theta_0 + alpha * theta_1` (PAINT, Sec. 2; WiSE-FT, Sec. 3)."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hf_paint.compatibility import TensorSpec, check_compatible
from hf_paint.errors import InputError


def interpolate(
    theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor], alpha: float, *, extrapolate: bool = False
) -> dict[str, Tensor]:
    """Interpolate the weights of a model before and after fine-tuning.

    `theta_alpha = (1 - alpha) * theta_0 + alpha * theta_1`, computed in float32 (float64 for float64 tensors) and
    rounded once to the dtype of the input. Exact where it can be: alpha 0 and 1 return the two ends bit for bit, and a
    tensor that is equal on both sides, such as every tensor of a frozen text tower, is unchanged at every alpha.
    The written-out sum has neither property for frozen tensors: `(1 - alpha) * x + alpha * x` need not be `x`.

    Args:
        theta_0: The weights before fine-tuning, name -> tensor.
        theta_1: The weights after fine-tuning, with the same names, shapes and dtypes.
        alpha: 0 is theta_0, 1 is theta_1.
        extrapolate: Allow an alpha outside [0, 1].

    Returns:
        name -> tensor, in the dtypes of the inputs. No tensor shares storage with an input.

    Raises:
        InputError: If the weights do not fit together, an integer tensor differs, or alpha is out of range.

    Example:
        >>> interpolate({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 0.25)
        {'w': tensor([0.2500, 0.2500])}
    """
    check_alpha(alpha, extrapolate=extrapolate)
    check_compatible(tensor_specs(theta_0), tensor_specs(theta_1))
    return {name: _interpolate_tensor(name, theta_0[name], theta_1[name], alpha) for name in theta_0}


@contextmanager
def interpolated(
    model: nn.Module,
    theta_0: Mapping[str, Tensor],
    theta_1: Mapping[str, Tensor],
    alpha: float,
    *,
    extrapolate: bool = False,
) -> Iterator[nn.Module]:
    """Let a model carry `theta_alpha` inside a `with` block, and its own weights again afterwards.

    Args:
        model: Any module whose state dict holds the names of theta_0; its other tensors are left alone.
        theta_0: The weights before fine-tuning, name -> tensor.
        theta_1: The weights after fine-tuning.
        alpha: 0 is theta_0, 1 is theta_1.
        extrapolate: Allow an alpha outside [0, 1].

    Yields:
        The model. Its own weights come back at the end of the block, also when the block raises.

    Raises:
        InputError: As `interpolate`, and if the model lacks a tensor that is to be interpolated.

    Example:
        >>> layer = nn.Linear(2, 2, bias=False)
        >>> theta_0, theta_1 = {"weight": torch.zeros(2, 2)}, {"weight": torch.ones(2, 2)}
        >>> with interpolated(layer, theta_0, theta_1, 0.5):
        ...     float(layer.weight[0, 0])
        0.5
    """
    theta_alpha = interpolate(theta_0, theta_1, alpha, extrapolate=extrapolate)
    state = model.state_dict()
    missing = sorted(theta_alpha.keys() - state.keys())
    if missing:
        raise InputError(f"The model has no tensor '{missing[0]}' ({len(missing)} of {len(theta_alpha)} are missing).")
    before = {name: state[name].clone() for name in theta_alpha}
    try:
        model.load_state_dict(theta_alpha, strict=False)
        yield model
    finally:
        model.load_state_dict(before, strict=False)


@torch.no_grad()
def interpolate_into(
    target: Mapping[str, Tensor], theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor], alpha: float
) -> None:
    """Write `theta_alpha` into tensors that are already there, rounded once more to their dtypes.

    Args:
        target: Where to, name -> tensor; a model's `state_dict()` lets the model carry theta_alpha.
        theta_0: The weights before fine-tuning, name -> tensor.
        theta_1: The weights after fine-tuning, which fit to theta_0 (`interpolate` checks that, this does not).
        alpha: 0 is theta_0, 1 is theta_1.

    Raises:
        InputError: If the target lacks a tensor, or an integer tensor differs.

    Example:
        >>> target = {"w": torch.empty(2)}
        >>> interpolate_into(target, {"w": torch.zeros(2)}, {"w": torch.ones(2)}, 0.25)
        >>> target["w"]
        tensor([0.2500, 0.2500])
    """
    missing = sorted(theta_0.keys() - target.keys())
    if missing:
        raise InputError(f"The model has no tensor '{missing[0]}' ({len(missing)} of {len(theta_0)} are missing).")
    for name in theta_0:
        target[name].copy_(_interpolate_tensor(name, theta_0[name], theta_1[name], alpha))


def check_alpha(alpha: float, *, extrapolate: bool = False) -> None:
    """Refuse an alpha that is not a finite number in [0, 1] (any finite number with `extrapolate`)."""
    if not math.isfinite(alpha) or not (extrapolate or 0 <= alpha <= 1):
        raise InputError(f"alpha must be in [0, 1], got {alpha}. To go beyond, ask for it: extrapolate=True.")


def tensor_specs(theta: Mapping[str, Tensor]) -> dict[str, TensorSpec]:
    """Return name -> (dtype, shape), the part of the weights that decides whether they fit together."""
    return {name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for name, tensor in theta.items()}


def _interpolate_tensor(name: str, x_0: Tensor, x_1: Tensor, alpha: float) -> Tensor:
    if alpha in (0, 1):
        return (x_1 if alpha else x_0).detach().clone()
    if torch.equal(x_0, x_1):
        return x_0.detach().clone()
    if not x_0.is_floating_point():
        raise InputError(f"Tensor '{name}' holds integers that differ; only floating-point tensors are interpolated.")
    arithmetic = torch.promote_types(x_0.dtype, torch.float32)
    return torch.lerp(x_0.detach().to(arithmetic), x_1.detach().to(arithmetic), alpha).to(x_0.dtype)
