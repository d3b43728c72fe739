"""Task arithmetic: sums of task vectors (Ilharco et al., ICLR 2023)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.base import Measurements, Several
from hf_paint.merging.interpolation import Weights, add, combine, subtract
from hf_paint.weights.compatibility import check_compatible


def add_task_vectors(theta_0: Weights, thetas: Mapping[str, Weights], scale: float) -> dict[str, Tensor]:
    """Return `theta_0 + scale * sum_i (theta_i - theta_0)` (Ilharco et al., 2023, Section 2).

    Args:
        theta_0: The weights before fine-tuning, name -> tensor.
        thetas: Model -> its weights after fine-tuning, with the same names, shapes and dtypes.
        scale: The scale of all task vectors; a negative one forgets the tasks. For one scale per model, see `combine`.

    Raises:
        InputError: If the weights are not compatible, or an integer tensor differs.

    Example:
        >>> add_task_vectors({"w": torch.zeros(1)}, {"a": {"w": torch.ones(1)}}, -0.5)
        {'w': tensor([-0.5000])}
    """
    return combine(theta_0, thetas, dict.fromkeys(thetas, scale))


def merge_task_vectors(
    theta_0: Weights,
    thetas: Mapping[str, Weights],
    scale: float,
    merge: Callable[[str, Mapping[str, Tensor]], Tensor],
) -> dict[str, Tensor]:
    """Return theta_0 plus the scaled merged task vector, computed one tensor at a time.

    Args:
        theta_0: The weights before fine-tuning, name -> tensor.
        thetas: Model -> its weights after fine-tuning.
        scale: The scale of the merged task vector.
        merge: Merges one tensor: its name, and model -> task vector.
    """
    merged = {}
    for name, x_0 in theta_0.items():
        taus = {model: subtract(name, x_0, theta[name]) for model, theta in thetas.items()}
        merged[name] = add(x_0, scale * merge(name, taus))
    return merged


def check_task_vectors(theta_0: Weights, thetas: Mapping[str, Weights], density: float) -> None:
    """Check that there are fine-tuned models, that they are compatible with theta_0, and the density."""
    if not thetas:
        raise InputError("Task arithmetic needs at least one fine-tuned model, got none.")
    check_density(density)
    for model, theta in thetas.items():
        check_compatible(theta_0, theta, model)


def check_density(density: float) -> None:
    """Check that a density is above 0 and at most 1."""
    if not 0 < density <= 1:
        raise InputError(f"density must be above 0 and at most 1, got {density}.")


@dataclass(frozen=True, kw_only=True)
class TaskArithmetic(Several):
    """The sum of all task vectors with one scale."""

    name: ClassVar[str] = "task_arithmetic"
    end: ClassVar[str] = "sum"

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_0 plus all task vectors."""
        return add_task_vectors(theta_0, thetas, 1.0)

    def sentence(self) -> str:
        """Return the description of the task vector."""
        return "`theta_1 - theta_0` is the sum of the task vectors of the fine-tuned models (task arithmetic)."
