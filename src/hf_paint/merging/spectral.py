"""What spectral merges share: which tensors are matrices, and the singular directions of a matrix."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.task_arithmetic import merge_task_vectors
from hf_paint.models.devices import to_float64
from hf_paint.weights.compatibility import check_compatible


AVERAGED = "text_projection"
"""Part of the name of a matrix that is averaged like a vector, as in the code of both papers."""


class Directions(NamedTuple):
    """The singular directions of a matrix of rank k, from the largest singular value to the smallest.

    Attributes:
        left: Left singular vectors, shape (num_rows, k).
        values: Singular values, shape (k,).
        right: Right singular vectors, shape (num_columns, k).
    """

    left: Tensor
    values: Tensor
    right: Tensor

    def first(self, number: int) -> "Directions":
        """Return the directions of the `number` largest singular values, or all if there are fewer."""
        return Directions(self.left[:, :number], self.values[:number], self.right[:, :number])


@torch.no_grad()
def merge_matrices(
    theta_0: Weights,
    thetas: Mapping[str, Weights],
    merge: Callable[[Sequence[Tensor]], Tensor],
    *,
    method: str,
    device: torch.device | None = None,
) -> dict[str, Tensor]:
    """Merge the task vectors of all matrices, average those of other tensors, and add the result to theta_0.

    A matrix is a tensor with two dimensions: the weight of a linear layer, but also a table of position embeddings.
    Other tensors are averaged: biases, layer norms, the class embedding and convolutions, e.g. the patch embedding of
    shape (width, 3, patch_size, patch_size). So is the text projection of CLIP.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor. Tensors are read one at a time.
        thetas: Model -> weights after fine-tuning, with the same names, shapes and dtypes.
        merge: Called with the task vectors of a matrix, in float32 (float64 for float64 weights). Returns the merged
            task vector.
        method: Name of the method, for the progress bar and error messages.
        device: Device to compute on. By default, the device of each tensor.

    Returns:
        name -> tensor, in the same dtypes and on the same devices as theta_0. Tensors that no model changed are
        bit-identical to theta_0.

    Raises:
        InputError: If there are fewer than two models, the weights are not compatible, an integer tensor differs, or
            a changed matrix contains inf or NaN.
    """
    if len(thetas) < 2:
        raise InputError(f"{method} needs at least two fine-tuned models, got {len(thetas)}.")
    for model, theta in thetas.items():
        check_compatible(theta_0, theta, model)

    def merge_tensor(name: str, taus: Mapping[str, Tensor]) -> Tensor:
        first, *_ = parts = [*taus.values()]
        if not any(bool(tau.any()) for tau in parts):
            return first
        if first.ndim != 2 or AVERAGED in name:
            return mean(parts)
        for model, tau in taus.items():
            _check_finite(name, model, tau)
        return merge([tau.to(device or tau.device) for tau in parts]).to(first.device)

    return merge_task_vectors(theta_0, thetas, 1.0, merge_tensor, progress=method)


def mean(parts: Sequence[Tensor]) -> Tensor:
    """Return the mean of tensors of the same shape."""
    return torch.stack([*parts]).mean(dim=0)


def singular_directions(matrix: Tensor, *, scale: Tensor | None = None) -> Directions:
    """Return the singular directions of a matrix.

    Directions whose singular value is zero up to rounding are left out, as any vectors could stand for them.

    Args:
        matrix: Shape (num_rows, num_columns).
        scale: Norm of the matrix that this one is a part of, which determines how large rounding errors are. By
            default, the largest singular value.

    Example:
        >>> singular_directions(torch.tensor([[3.0, 0.0], [0.0, 0.0]])).values
        tensor([3.])
    """
    if matrix.shape[0] < matrix.shape[1]:  # a tall matrix takes about half the time
        right, values, left = singular_directions(matrix.T, scale=scale)
        return Directions(left, values, right)
    decompose = _by_svd if matrix.dtype == torch.float64 else _by_eigenvectors
    left, values, right = decompose(matrix)
    smallest = (values[:1] if scale is None else scale) * max(matrix.shape) * torch.finfo(matrix.dtype).eps
    return Directions(left, values, right).first(int((values > smallest).sum()))


def _by_svd(matrix: Tensor) -> Directions:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return Directions(left, values, right.T)


def _by_eigenvectors(matrix: Tensor) -> Directions:
    """Decompose a float32 matrix in float64, from the eigenvectors of `matrix.T @ matrix`.

    This is more exact than an SVD in float32, and faster. Squaring the singular values costs half the digits, which
    leaves those of float32.
    """
    exact = to_float64(matrix)
    right = torch.linalg.eigh(exact.T @ exact).eigenvectors.flip(1)  # from the largest eigenvalue to the smallest
    left = exact @ right
    values = left.norm(dim=0)
    left = torch.where(values > 0, left / values, 0)
    return Directions(left.to(matrix), values.to(matrix), right.to(matrix))


def nearest_orthogonal(vectors: Tensor) -> Tensor:
    """Return the matrix with orthonormal columns that is nearest to a matrix (Schönemann, 1966).

    If the columns are linearly dependent, the result is an isometry only on the space they span.

    Args:
        vectors: One vector per column, shape (size, number).

    Example:
        >>> nearest_orthogonal(torch.tensor([[2.0, 0.0], [0.0, 0.5]]))
        tensor([[1., 0.],
                [0., 1.]])
    """
    left, _, right = singular_directions(vectors)
    return left @ right.T


def concatenate(parts: Sequence[Directions]) -> Directions:
    """Return the directions of several matrices side by side."""
    lefts, values, rights = zip(*parts, strict=True)
    return Directions(torch.cat(lefts, dim=1), torch.cat(values), torch.cat(rights, dim=1))


def _check_finite(name: str, model: str, tau: Tensor) -> None:
    if not bool(tau.isfinite().all()):
        raise InputError(
            f"The change of '{name}' from theta_0 to {model} contains inf or NaN, so it has no singular values. "
            "Check that the fine-tuning did not diverge."
        )
