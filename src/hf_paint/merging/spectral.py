"""What spectral merges share: which tensors are matrices, and the singular directions of a matrix."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

    def above(self, smallest: Tensor) -> "Directions":
        """Return the directions whose singular value is larger than `smallest`."""
        return self.first(int((self.values > smallest).sum()))

    def first(self, number: int) -> "Directions":
        """Return the directions of the `number` largest singular values, or all if there are fewer."""
        return Directions(self.left[:, :number], self.values[:number], self.right[:, :number])


@dataclass(frozen=True)
class Decomposition:
    """Singular directions of matrices in float64, as exact as the dtype of the weights allows.

    Matrices of float64 weights are decomposed by an SVD. For other weights, eigenvectors of `matrix.T @ matrix` are
    faster: squaring the singular values costs half the digits of float64, which leaves those of float32.

    Attributes:
        dtype: Dtype of the task vectors, float32 or float64.
    """

    dtype: torch.dtype

    def directions(self, matrix: Tensor, *, scale: Tensor | None = None) -> Directions:
        """Return the singular directions of a matrix.

        Directions whose singular value is zero up to rounding are left out, as any vectors could stand for them.

        Args:
            matrix: Shape (num_rows, num_columns), in float64.
            scale: Norm of the matrix that this one is a part of, which determines how large rounding errors are. By
                default, the largest singular value.

        Example:
            >>> matrix = torch.tensor([[3.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
            >>> Decomposition(torch.float32).directions(matrix).values
            tensor([3.], dtype=torch.float64)
        """
        found = self._decompose(matrix)
        precision = max(matrix.shape) * torch.finfo(torch.float64).eps
        rounding = precision if self._is_exact else math.sqrt(precision)
        return found.above(rounding * (found.values[:1] if scale is None else scale))

    def nearest_orthogonal(self, vectors: Tensor) -> Tensor:
        """Return the matrix with orthonormal columns that is nearest to a matrix (Schönemann, 1966).

        If the columns are linearly dependent, the result is an isometry only on the space they span.

        Args:
            vectors: One vector per column, shape (size, number), in float64.

        Example:
            >>> vectors = torch.tensor([[2.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
            >>> Decomposition(torch.float64).nearest_orthogonal(vectors)
            tensor([[1., 0.],
                    [0., 1.]], dtype=torch.float64)
        """
        left, _, right = self.directions(vectors)
        return left @ right.T

    @property
    def _is_exact(self) -> bool:
        return self.dtype == torch.float64

    def _decompose(self, matrix: Tensor) -> Directions:
        if matrix.shape[0] < matrix.shape[1]:  # a tall matrix takes less time
            right, values, left = self._decompose(matrix.T)
            return Directions(left, values, right)
        if self._is_exact:
            left, values, right = torch.linalg.svd(matrix, full_matrices=False)
            return Directions(left, values, right.T)
        right = torch.linalg.eigh(matrix.T @ matrix).eigenvectors.flip(1)  # from the largest eigenvalue
        left = matrix @ right
        values = left.norm(dim=0)
        return Directions(torch.where(values > 0, left / values, 0), values, right)


@torch.no_grad()
def merge_matrices(
    theta_0: Weights,
    thetas: Mapping[str, Weights],
    merge: Callable[[Sequence[Tensor], Decomposition], Tensor],
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
        merge: Called with the task vectors of a matrix, in float64, and their decomposition. Returns the merged task
            vector.
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
        """Return the merged change of a tensor: by the method if it is a matrix, else the mean."""
        first, *_ = parts = [*taus.values()]
        if not any(bool(tau.any()) for tau in parts):
            return first
        if first.ndim != 2 or AVERAGED in name:
            return mean(parts)
        exact = [to_float64(tau.to(device or tau.device)) for tau in parts]
        return merge(exact, Decomposition(first.dtype)).to(first)

    return merge_task_vectors(theta_0, thetas, 1.0, merge_tensor, progress=method)


def mean(parts: Sequence[Tensor]) -> Tensor:
    """Return the mean of tensors of the same shape."""
    return torch.stack([*parts]).mean(dim=0)


def concatenate(parts: Sequence[Directions]) -> Directions:
    """Return the directions of several matrices side by side."""
    lefts, values, rights = zip(*parts, strict=True)
    return Directions(torch.cat(lefts, dim=1), torch.cat(values), torch.cat(rights, dim=1))
