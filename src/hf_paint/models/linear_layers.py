"""Linear layers that oneDNN computes in float32 on CPUs where it is faster than the library that PyTorch chooses.

PyTorch multiplies float32 matrices with MKL, which reaches half of oneDNN's speed on some AMD processors.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import Protocol

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hf_paint.errors import inform_once, warn_once
from hf_paint.models.compilation import operations_per_image


MIN_SPEEDUP = 1.15
MEASURED_FROM = 1e9
"""Operations per image from which a model is so slow on a CPU that a measurement of 0.1 s pays."""
ROWS, WIDTH, ROUNDS = 512, 768, 3
"""Sizes of the measured products, and how often each way runs."""


class OneDNNLinear(nn.Linear):
    """A linear layer that oneDNN computes in float32 on a CPU; otherwise, it is an ordinary `nn.Linear`.

    Its parameters keep their names, and its results are equal up to float32 rounding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the layer's output, shape (..., out_features), for an input of shape (..., in_features)."""
        exact = input.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if not exact or input.device.type != "cpu" or input.dim() < 2 or not input.numel():
            return super().forward(input)
        return multiply(input, self.weight, self.bias)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `x @ weight.T + bias`, computed by oneDNN, as are its gradients.

    Args:
        x: Float32 on a CPU, shape (..., in_features).
        weight: Shape (out_features, in_features).
        bias: Shape (out_features,).
    """
    if not torch.is_grad_enabled():
        return _product(x, weight, bias)
    output: Tensor = _Product.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return output


class _Context(Protocol):
    """What the forward pass of a product keeps for its backward pass."""

    saved_tensors: tuple[Tensor, Tensor]
    needs_input_grad: tuple[bool, bool, bool]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors for the backward pass."""


class _Product(torch.autograd.Function):
    """oneDNN's product, whose operator in PyTorch has no gradients. These are products too, without gradients."""

    @staticmethod
    def forward(ctx: _Context, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return `x @ weight.T + bias`, (..., num_outputs) for x (..., num_inputs)."""
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of x, weight and bias, or None where none is needed."""
        [gradient] = gradients
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            _product(gradient, weight.t().contiguous(), None) if for_x else None,
            _product(rows.t().contiguous(), x.flatten(0, -2).t().contiguous(), None) if for_weight else None,
            rows.sum(0) if for_bias else None,
        )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    bias = None if bias is None else bias.contiguous()  # oneDNN ignores the strides of a bias
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def use_onednn(model: nn.Module) -> None:
    """Turn every linear layer of a model into a `OneDNNLinear`, in place.

    Example:
        >>> tower = image_tower(model)
        >>> use_onednn(tower)
        >>> type(tower.vision_model.encoder.layers[0].mlp.fc1).__name__
        'OneDNNLinear'
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDNNLinear


def undo_onednn(model: nn.Module) -> None:
    """Undo `use_onednn`."""
    for module in model.modules():
        kind: type[nn.Module] = type(module)
        if kind is OneDNNLinear:
            module.__class__ = nn.Linear


def measured_choice(model: nn.Module, device: torch.device) -> bool | None:
    """Return whether oneDNN is faster with a model's linear layers, the same in all processes; measured once in each.

    Returns:
        None if there is nothing to choose: on a GPU, for a small model, or if this PyTorch has no oneDNN.
    """
    if device.type != "cpu" or operations_per_image(model) < MEASURED_FROM or not is_available():
        return None
    found = [speedup()]
    broadcast_object_list(found)
    if found[0] < MIN_SPEEDUP:
        return False
    inform_once(
        f"oneDNN computes the float32 products of linear layers, {found[0]:.1f} times as fast as PyTorch's own choice "
        "on this processor. `onednn: false` switches that off."
    )
    return True


def choose_onednn(model: nn.Module, wanted: bool | None, device: torch.device) -> bool:
    """Apply `use_onednn` to a model if that is wanted, or if it is left open and oneDNN is faster; return whether."""
    chosen = measured_choice(model, device) if wanted is None else wanted and device.type == "cpu"
    if chosen and not is_available():
        warn_once("This PyTorch has no oneDNN for linear layers. They are computed as if `onednn` were false.")
        return False
    if chosen:
        use_onednn(model)
    return bool(chosen)


def is_available() -> bool:
    """Return whether this PyTorch has oneDNN's linear layers."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def speedup() -> float:
    """Return how many times as fast oneDNN is with a linear layer and its gradients on this processor, in float32."""
    x = torch.ones(ROWS, WIDTH)  # no random numbers: the generator belongs to the training
    weight, bias = torch.ones(WIDTH, WIDTH, requires_grad=True), torch.ones(WIDTH, requires_grad=True)
    ways: tuple[Callable[..., Tensor], ...] = functional.linear, multiply
    seconds: list[list[float]] = [[], []]
    for _ in range(1 + ROUNDS):
        for way, taken in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            torch.autograd.grad(way(x, weight, bias).sum(), (weight, bias))
            taken.append(time.perf_counter() - start)
    plain, ours = (min(taken[1:]) for taken in seconds)  # the first round warms up
    return plain / ours
