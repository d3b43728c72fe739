"""OPCM: merging models one after the other by orthogonal projection (Tang et al., 2025)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from hf_paint.errors import InputError
from hf_paint.merging.base import check_share
from hf_paint.merging.interpolation import Weights, add, subtract
from hf_paint.merging.spectral import Decomposition
from hf_paint.models.devices import to_float64
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import all_finite, checked, in_range


NAME = "projection"
TABLE = "embedding"
"""Part of the name of tables of embeddings, which are no linear layers although they have two dimensions."""


@torch.no_grad()
def merge_by_projection(
    theta_0: Weights, thetas: Mapping[str, Weights], *, threshold: float = 0.5, device: torch.device | None = None
) -> dict[str, Tensor]:
    """Merge models in the order in which they arrived, each projected away from those before it (OPCM).

    Tang et al. ("Merging Models on the Fly Without Retraining: A Sequential Approach to Scalable Continual Model
    Merging", 2025, Algorithm 1). With tau_t = theta_t - theta_0 for the model t, each tensor sums up

        s_1 = tau_1,   s_t = s_{t-1} + P(tau_t)

    and the merged model after T models is `theta_0 + s_T / lambda_T`. With `lambda_T = ||s_T|| / mean_t ||tau_t||`, of
    all tensors together, the merged task vector has the mean norm of the task vectors and does not grow with T.

    For the weight of a linear layer, P depends on the singular value decomposition `s_{t-1} = U diag(sigma) V^T`. In
    the basis of U and V, it sets two things in tau_t to zero: the block of the largest singular values, of which as
    many are taken as have at most the share `threshold` of the sum of all; and the diagonal. Hence P(tau_t) is
    orthogonal to s_{t-1}. For other tensors, P changes nothing: biases, layer norms, convolutions and tables of
    embeddings.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor. Tensors are read one at a time.
        thetas: Task -> weights after fine-tuning from theta_0, in the order of the tasks, with the same names, shapes
            and dtypes. Of each tensor, the versions of all models are in memory at once.
        threshold: Share of the sum of the singular values, in [0, 1]. At 1, everything that could overwrite an earlier
            direction is removed; at 0, only the diagonal.
        device: Device to compute on. By default, the device of each tensor.

    Returns:
        name -> tensor at alpha 1, in the same dtypes and on the same devices as theta_0. Tensors that no model changed
        are bit-identical to theta_0.

    Raises:
        InputError: If there is no model, the weights are not compatible, an integer tensor differs, a tensor contains
            inf or NaN, or the threshold is out of range.

    Example:
        >>> a, b = torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 4.0]])
        >>> merge_by_projection({"w": torch.zeros(2, 2)}, {"a": {"w": a}, "b": {"w": b}}, threshold=1.0)["w"]
        tensor([[2.8209, 0.0000],
                [0.0000, 3.7612]])
    """
    check_share(NAME, "threshold", threshold)
    if not thetas:
        raise InputError("A merge by projection needs at least one fine-tuned model, got none.")
    for model, theta in thetas.items():
        check_compatible(theta_0, theta, model)
    theta_0, thetas = checked(theta_0, "theta_0"), all_finite(thetas)
    sums: dict[str, Tensor] = {}
    squares, square = dict.fromkeys(thetas, 0.0), 0.0
    for name, x_0 in tqdm(theta_0.items(), NAME, unit="tensor", leave=False, delay=1):
        taus = {model: subtract(name, x_0, theta[name]) for model, theta in thetas.items()}
        exact = {model: to_float64(tau.to(device or tau.device)) for model, tau in taus.items()}
        squares = {model: squares[model] + float(tau.square().sum()) for model, tau in exact.items()}
        merged = _sum(name, [*exact.values()], Decomposition(x_0.dtype), threshold=threshold)
        square += float(merged.square().sum())
        sums[name] = merged.to(next(iter(taus.values())))
    norm = sum(map(math.sqrt, squares.values())) / len(squares)
    scale = norm / math.sqrt(square) if square else 1.0
    return {name: in_range(name, add(theta_0[name], scale * sums.pop(name))) for name in [*sums]}


def _sum(name: str, taus: Sequence[Tensor], decomposition: Decomposition, *, threshold: float) -> Tensor:
    """Return the sum of task vectors, each projected away from the sum of those before it."""
    merged, *others = taus
    projects = merged.ndim == 2 and TABLE not in name
    for tau in others:
        merged = merged + (orthogonal_part(tau, merged, decomposition, threshold=threshold) if projects else tau)
    return merged


def orthogonal_part(tau: Tensor, merged: Tensor, decomposition: Decomposition, *, threshold: float) -> Tensor:
    """Return P(tau), the part of a task vector that is orthogonal to what is merged already.

    Args:
        tau: Task vector of a matrix, shape (num_rows, num_columns), in float64.
        merged: The merged task vector so far, of the same shape.
        decomposition: How the matrix is decomposed.
        threshold: Share of the sum of the singular values whose directions are kept free.

    Returns:
        Matrix of the same shape, in float64.
    """
    left, values, right = decomposition.directions(merged)
    sums = values.cumsum(0)
    number = int((sums <= threshold * sums[-1:]).sum())
    block = left[:, :number] @ (left[:, :number].T @ tau @ right[:, :number]) @ right[:, :number].T
    diagonal = ((left.T @ tau) * right.T).sum(dim=1)
    return tau - block - (left[:, number:] * diagonal[number:]) @ right[:, number:].T
