"""Weight interpolation: `theta_alpha = (1 - alpha) * theta_0 + alpha * theta_1` (PAINT, Sec. 2; WiSE-FT, Sec. 3)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce

import torch
from torch import Tensor, nn

from hf_paint.errors import InputError
from hf_paint.weights.compatibility import check_alpha, check_coefficients, check_compatible
from hf_paint.weights.finite import finite, is_finite, overflow


Weights = Mapping[str, Tensor]
"""Weights of a model or part of a model: name -> tensor."""


def interpolate(theta_0: Weights, theta_1: Weights, alpha: float, *, extrapolate: bool = False) -> dict[str, Tensor]:
    """Interpolate between the weights of a model before and after fine-tuning.

    `theta_alpha = (1 - alpha) * theta_0 + alpha * theta_1` is computed as `theta_0 + alpha * (theta_1 - theta_0)` in
    float32 (float64 for float64 tensors) and rounded once to the dtype of the input. At alpha 0 and 1, the result is
    bit-identical to theta_0 and theta_1. Weights that fine-tuning did not change, e.g. a frozen text tower, stay the
    same at every alpha; the first formula does not guarantee this, as `(1 - alpha) * x + alpha * x` may differ from
    `x`.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        theta_1: Weights after fine-tuning, with the same names, shapes and dtypes.
        alpha: Position between theta_0 (0) and theta_1 (1).
        extrapolate: Allow an alpha outside [0, 1].

    Returns:
        name -> tensor, in the same dtypes as the inputs. No tensor shares storage with an input.

    Raises:
        InputError: If the weights are not compatible, an integer tensor differs, alpha is out of range, or the result
            would hold NaN or inf.

    Example:
        >>> interpolate({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 0.25)
        {'w': tensor([0.2500, 0.2500])}
    """
    check_alpha(alpha, extrapolate=extrapolate)
    return combine(theta_0, {"theta_1": theta_1}, {"theta_1": alpha})


def combine(theta_0: Weights, thetas: Mapping[str, Weights], alphas: Mapping[str, float]) -> dict[str, Tensor]:
    """Combine several models that were fine-tuned from the same base (PAINT, Sec. 2: parallel patching).

    Return `theta_0 + sum_i alpha_i * (theta_i - theta_0)`, summed in the order of `thetas`. For a single model, this
    is `interpolate`, and it is equally exact: if all coefficients are 0, the result is bit-identical to theta_0; if
    one is 1 and the others are 0, it is bit-identical to that theta_i; and a weight that is equal in all models stays
    unchanged. Models with coefficient 0 are ignored.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        thetas: Model -> weights after fine-tuning, with the same names, shapes and dtypes.
        alphas: Model -> coefficient, which can be any finite number.

    Returns:
        name -> tensor, in the same dtypes as the inputs. No tensor shares storage with an input.

    Raises:
        InputError: If the weights are not compatible, an integer tensor differs, a model has no coefficient, or the
            result would hold NaN or inf.

    Example:
        >>> thetas = {"mnist": {"w": torch.tensor([1.0, 0.0])}, "cars": {"w": torch.tensor([0.0, 1.0])}}
        >>> combine({"w": torch.zeros(2)}, thetas, {"mnist": 0.5, "cars": 0.25})
        {'w': tensor([0.5000, 0.2500])}
    """
    check_coefficients(thetas, alphas)
    for model, theta in thetas.items():
        check_compatible(theta_0, theta, model)
    return {
        name: combine_tensor(name, x_0, [(theta[name], alphas[model]) for model, theta in thetas.items()], [*thetas])
        for name, x_0 in theta_0.items()
    }


@contextmanager
def interpolated(
    model: nn.Module,
    theta_0: Weights,
    theta_1: Weights,
    alpha: float,
    *,
    extrapolate: bool = False,
) -> Iterator[nn.Module]:
    """Context manager that loads `theta_alpha` into a model and restores the original weights afterwards.

    Args:
        model: Module whose state dict contains all names in theta_0. Its other tensors are left unchanged.
        theta_0: Weights before fine-tuning, name -> tensor.
        theta_1: Weights after fine-tuning.
        alpha: Position between theta_0 (0) and theta_1 (1).
        extrapolate: Allow an alpha outside [0, 1].

    Yields:
        The model with the weights `theta_alpha`. The original weights are restored even if the block raises.

    Raises:
        InputError: Same as for `interpolate`, and if the model lacks one of the tensors.

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


def combine_tensor(
    name: str, x_0: Tensor, parts: Sequence[tuple[Tensor, float]], models: Sequence[str] = ("theta_1",)
) -> Tensor:
    """Apply `combine` to a single tensor: `x_0 + sum_i alpha_i * (x_i - x_0)`. Shapes are not checked.

    Args:
        name: Tensor name to use in error messages.
        x_0: Tensor before fine-tuning.
        parts: (x_i, alpha_i) for each fine-tuned model.
        models: Names of the fine-tuned models to use in error messages.

    Raises:
        InputError: If an integer tensor differs between the models, or the result would hold NaN or inf.
    """
    combined = _combine_tensor(name, x_0, parts)
    if not is_finite(combined):
        used = {model: x for model, (x, alpha) in zip(models, parts, strict=True) if alpha}
        for model, x in ({"theta_0": x_0} | used).items():
            finite(name, x, model)
        raise overflow(name, x_0.dtype)
    return combined


def _combine_tensor(name: str, x_0: Tensor, parts: Sequence[tuple[Tensor, float]]) -> Tensor:
    parts = [(x_i.detach(), alpha) for x_i, alpha in parts if alpha]
    x_0 = x_0.detach()
    if not parts or [alpha for _, alpha in parts] == [1]:
        return (parts[0][0] if parts else x_0).clone()
    if all(torch.equal(bits(x_i), bits(x_0)) for x_i, _ in parts):
        return x_0.clone()
    if not x_0.is_floating_point():
        raise InputError(
            f"Integer tensor '{name}' differs between the models. Only floating-point tensors can be interpolated."
        )
    total = start = x_0.to(torch.promote_types(x_0.dtype, torch.float32))
    for x_i, alpha in parts:  # each operation rounds: lerp and add(alpha=) fuse two of them on some devices
        total = (x_i.to(start.dtype) - start).mul_(alpha).add_(total)
    rounded = total.to(x_0.dtype)
    if not _has_specials(x_0):
        return rounded
    same = reduce(torch.logical_and, [bits(x_i) == bits(x_0) for x_i, _ in parts])
    return torch.where(same, x_0, rounded)


def combine_plain(x_0s: list[Tensor], parts: Sequence[tuple[list[Tensor], float]], into: list[Tensor]) -> None:
    """Write what `combine_tensor` returns for many plain tensors (see `plain_tensors`) into others, all at once.

    On a GPU, this takes a few launches instead of a dozen for each tensor, and never waits for the GPU.

    Args:
        x_0s: Tensors before fine-tuning.
        parts: ([x_i], alpha_i) for each fine-tuned model.
        into: Tensors to overwrite, of any dtype.
    """
    parts = [(xs, alpha) for xs, alpha in parts if alpha]
    if not parts or [alpha for _, alpha in parts] == [1]:
        torch._foreach_copy_(into, parts[0][0] if parts else x_0s)
        return
    dtypes = [torch.promote_types(x.dtype, torch.float32) for x in x_0s]
    starts = [x.to(dtype) for x, dtype in zip(x_0s, dtypes, strict=True)]
    totals = [*starts]
    for xs, alpha in parts:  # the operations of `combine_tensor`, in the same order
        moves = torch._foreach_sub([x.to(dtype) for x, dtype in zip(xs, dtypes, strict=True)], starts)
        torch._foreach_mul_(moves, alpha)
        torch._foreach_add_(moves, totals)
        totals = [*moves]
    torch._foreach_copy_(into, [total.to(x.dtype) for total, x in zip(totals, x_0s, strict=True)])


def plain_tensors(weights: Weights) -> list[str]:
    """Return the names of the floating-point tensors that hold neither -0.0 nor inf nor NaN, waiting for a GPU once.

    Example:
        >>> plain_tensors({"a": torch.ones(2), "b": torch.tensor([-0.0]), "c": torch.ones(2, dtype=torch.int64)})
        ['a']
    """
    names = [name for name, x in weights.items() if x.is_floating_point()]
    if not names:
        return []
    special = torch.stack([_specials(weights[name].detach()) for name in names])
    return [name for name, found in zip(names, special.tolist(), strict=True) if not found]


def bits(x: Tensor) -> Tensor:
    """Reinterpret a tensor as integers, so that bitwise equal NaNs compare as equal."""
    return x.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])


def _has_specials(x: Tensor) -> bool:
    """Return whether a tensor may contain -0.0, inf or NaN, none of which `x + alpha * (x - x)` preserves."""
    return bool(_specials(x))


def _specials(x: Tensor) -> Tensor:
    """Return the same as a tensor, shape (), without waiting for the device."""
    integers = bits(x)
    return x.sum().isfinite().logical_not_().logical_or_(integers.min() == torch.iinfo(integers.dtype).min)


def subtract(name: str, x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return `x_1 - x_0` in float32 (float64 for float64 tensors); bitwise equal elements, even inf and NaN, give 0.

    Args:
        name: Tensor name to use in error messages.
        x_0: Tensor before fine-tuning.
        x_1: Tensor after fine-tuning, with the same shape and dtype.

    Raises:
        InputError: If the tensors contain integers and differ.
    """
    x_0, x_1 = x_0.detach(), x_1.detach()
    same = bits(x_0) == bits(x_1)
    if not x_0.is_floating_point() and not bool(same.all()):
        raise InputError(
            f"Integer tensor '{name}' differs between the models. Only floating-point tensors can be averaged."
        )
    dtype = torch.promote_types(x_0.dtype, torch.float32)
    return (x_1.to(dtype) - x_0.to(dtype)).masked_fill_(same, 0)


def add(x_0: Tensor, tau: Tensor) -> Tensor:
    """Return `x_0 + tau`, rounded once to the dtype of x_0. Elements with tau 0 are left unchanged, even -0.0."""
    x_0 = x_0.detach()
    return torch.where(tau == 0, x_0, (x_0.to(tau.dtype) + tau).to(x_0.dtype))
