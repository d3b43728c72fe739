"""Isotropic merging: equal singular values, with common and task-specific subspaces (Marczak et al., ICML 2025)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.base import Measurements, Several
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.spectral import Decomposition, Directions, concatenate, merge_matrices
from hf_paint.models.devices import float64_device


ISO_C = "Iso-C"
ISO_CTS = "Iso-CTS"


def iso_c(theta_0: Weights, thetas: Mapping[str, Weights]) -> dict[str, Tensor]:
    """Add task vectors and make all singular values of the sum equal (Iso-C; Marczak et al., 2025, Section 4).

    In each matrix of the summed task vectors, every singular value is replaced by the mean of all, so that no
    direction dominates the others.

    A matrix is any tensor with two dimensions, which includes position embeddings. All other tensors are averaged, not
    added: biases, layer norms, the class embedding, the patch convolution; so is the text projection. Directions with
    a singular value of zero are left out, also from the mean.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor. Tensors are read one at a time.
        thetas: Task -> weights after fine-tuning, with the same names, shapes and dtypes. Two or more.

    Returns:
        name -> tensor at alpha 1, in the same dtypes as the inputs. Matrices are decomposed exactly, in float64 on the
        device of each tensor. To scale the merged task vector, pass the result to `interpolate`.

    Raises:
        InputError: If there are fewer than two models, the weights are not compatible, an integer tensor differs, or
            a changed matrix contains inf or NaN.

    Example:
        >>> tasks = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([0.0, 1.0])}
        >>> thetas = {task: {"w": torch.diag(x)} for task, x in tasks.items()}
        >>> iso_c({"w": torch.zeros(2, 2)}, thetas)
        {'w': tensor([[2., 0.],
                [0., 2.]])}
    """
    return merge_matrices(theta_0, thetas, _merge_common, method=ISO_C)


def iso_cts(theta_0: Weights, thetas: Mapping[str, Weights], *, common_fraction: float = 0.8) -> dict[str, Tensor]:
    """Merge task vectors in a common subspace and one subspace per task (Iso-CTS; Marczak et al., 2025, Section 4).

    In each matrix, the directions of the summed task vectors with the largest singular values span the common
    subspace. The remaining directions are shared out equally: each task adds the top directions of what is left of its
    own matrix outside the common subspace. The left and right singular vectors of all directions are each replaced by
    the nearest orthonormal vectors, and every singular value by the mean of all.

    Which tensors are matrices, and what happens to the others, is the same as for `iso_c`.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor. Tensors are read one at a time.
        thetas: Task -> weights after fine-tuning, with the same names, shapes and dtypes. Two or more.
        common_fraction: Fraction of the directions in the common subspace, in (0, 1]. In each matrix, the number of
            other directions is rounded to a multiple of the number of tasks. With 1, this is `iso_c`.

    Returns:
        name -> tensor at alpha 1, as for `iso_c`.

    Raises:
        InputError: Same as for `iso_c`, and if `common_fraction` is out of range.

    Example:
        >>> tasks = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([0.0, 1.0])}
        >>> thetas = {task: {"w": torch.diag(x)} for task, x in tasks.items()}
        >>> iso_cts({"w": torch.zeros(2, 2)}, thetas, common_fraction=1.0)
        {'w': tensor([[2., 0.],
                [0., 2.]])}
    """
    check_common_fraction(common_fraction)
    merge = partial(_merge_common_and_specific, common_fraction=common_fraction)
    return merge_matrices(theta_0, thetas, merge, method=ISO_CTS)


def check_common_fraction(common_fraction: float) -> None:
    """Check that a fraction of common directions is in (0, 1]."""
    if not 0 < common_fraction <= 1:
        raise InputError(f"common_fraction must be above 0 and at most 1, got {common_fraction}.")


def _merge_common(taus: Sequence[Tensor], decomposition: Decomposition) -> Tensor:
    return _with_equal_values(decomposition.directions(_total(taus)))


def _merge_common_and_specific(
    taus: Sequence[Tensor], decomposition: Decomposition, *, common_fraction: float
) -> Tensor:
    num_common, num_specific = _split(min(taus[0].shape), len(taus), common_fraction)
    common = decomposition.directions(_total(taus)).first(num_common)
    rest = [decomposition.directions(_outside(common.left, tau), scale=tau.norm()) for tau in taus]
    left, values, right = concatenate([common, *(directions.first(num_specific) for directions in rest)])
    left, right = decomposition.nearest_orthogonal(left), decomposition.nearest_orthogonal(right)
    return _with_equal_values(Directions(left, values, right))


def _split(size: int, num_tasks: int, common_fraction: float) -> tuple[int, int]:
    """Return the number of common directions, and of directions for each task."""
    num_specific = min(round((size - int(size * common_fraction)) / num_tasks), size // num_tasks)
    return size - num_tasks * num_specific, num_specific


def _outside(left: Tensor, tau: Tensor) -> Tensor:
    """Return what is left of a matrix outside the space of the orthonormal columns of `left`."""
    return tau - left @ (left.T @ tau)


def _total(taus: Sequence[Tensor]) -> Tensor:
    return sum(taus[1:], start=taus[0])


def _with_equal_values(directions: Directions) -> Tensor:
    number = max(1, len(directions.values))  # changes that cancel each other out have no directions
    return directions.values.sum() / number * (directions.left @ directions.right.T)


@dataclass(frozen=True, kw_only=True)
class IsoC(Several):
    """Iso-C: the sum of all task vectors, with equal singular values."""

    name: ClassVar[str] = "iso_c"
    end: ClassVar[str] = ISO_C
    cheap: ClassVar[bool] = True

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_0 plus the merged task vector, computed on the device of the run."""
        device = float64_device(measurements.device)
        return merge_matrices(theta_0, thetas, _merge_common, method=ISO_C, device=device)

    def sentence(self) -> str:
        """Return text for the model card that describes the merged task vector."""
        return (
            "`theta_1 - theta_0` is the sum of the task vectors of the fine-tuned models, with all singular values of "
            "each matrix replaced by their mean (Iso-C); tensors other than matrices are averaged."
        )


@dataclass(frozen=True, kw_only=True)
class IsoCTS(Several):
    """Iso-CTS: directions common to all tasks and directions of each task, with equal singular values."""

    name: ClassVar[str] = "iso_cts"
    end: ClassVar[str] = ISO_CTS
    cheap: ClassVar[bool] = True
    common_fraction: float = 0.8

    def __post_init__(self) -> None:
        check_common_fraction(self.common_fraction)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_0 plus the merged task vector, computed on the device of the run."""
        merge = partial(_merge_common_and_specific, common_fraction=self.common_fraction)
        device = float64_device(measurements.device)
        return merge_matrices(theta_0, thetas, merge, method=ISO_CTS, device=device)

    def sentence(self) -> str:
        """Return text for the model card that gives the fraction of common directions."""
        return (
            "`theta_1 - theta_0` merges the task vectors of the fine-tuned models with Iso-CTS: in each matrix, about "
            f"{100 * self.common_fraction:g} % of the singular directions come from their sum and the others from "
            "each model, all with the same singular value; tensors other than matrices are averaged."
        )
