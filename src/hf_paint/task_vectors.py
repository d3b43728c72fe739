"""Task vectors `tau = theta_1 - theta_0`, tensor by tensor (Ilharco et al., 2023, Section 2)."""

import torch
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.interpolation import bits


def subtract(name: str, x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return `x_1 - x_0` in float32 (float64 for float64); it is 0 where the bits are equal, also for inf and NaN.

    Args:
        name: What messages call the tensor.
        x_0: The tensor before fine-tuning.
        x_1: The tensor after fine-tuning, of the same shape and dtype.

    Raises:
        InputError: If it holds integers that differ.
    """
    x_0, x_1 = x_0.detach(), x_1.detach()
    same = bits(x_0) == bits(x_1)
    if not x_0.is_floating_point() and not bool(same.all()):
        raise InputError(f"Tensor '{name}' holds integers that differ; only floating-point tensors are averaged.")
    dtype = torch.promote_types(x_0.dtype, torch.float32)
    return (x_1.to(dtype) - x_0.to(dtype)).masked_fill_(same, 0)


def add(x_0: Tensor, tau: Tensor) -> Tensor:
    """Return `x_0 + tau`, rounded once to the dtype of x_0; where tau is 0 the bits of x_0 stay as they are.

    Without that, -0.0 would become 0.0.
    """
    x_0 = x_0.detach()
    return torch.where(tau == 0, x_0, (x_0.to(tau.dtype) + tau).to(x_0.dtype))
