"""Task arithmetic: sums of task vectors (Ilharco et al., ICLR 2023)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from tqdm.auto import tqdm

from hf_paint.errors import InputError
from hf_paint.merging.base import Measurements, Several
from hf_paint.merging.interpolation import Weights, add, combine, subtract
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import all_finite, checked, in_range


def add_task_vectors(theta_0: Weights, thetas: Mapping[str, Weights], scale: float) -> dict[str, Tensor]:
    """Return `theta_0 + scale * sum_i (theta_i - theta_0)` (Ilharco et al., 2023, Section 2).

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        thetas: Model -> weights after fine-tuning, with the same names, shapes and dtypes.
        scale: Factor for the sum of all task vectors. A negative value makes the model forget the tasks. To use a
            different factor for each model, see `combine`.

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
    *,
    progress: str = "",
) -> dict[str, Tensor]:
    """Merge task vectors one tensor at a time, and add the scaled result to theta_0.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        thetas: Model -> weights after fine-tuning.
        scale: Factor for the merged task vector.
        merge: Called as `merge(name, task_vectors)` for each tensor, where `task_vectors` maps each model to its task
            vector for that tensor. Returns the merged task vector.
        progress: Name of a progress bar, which is shown if merging takes longer than a second. By default, none.
    """
    merged, theta_0, thetas = {}, checked(theta_0, "theta_0"), all_finite(thetas)
    for name, x_0 in tqdm(theta_0.items(), progress, unit="tensor", leave=False, delay=1, disable=not progress):
        taus = {model: subtract(name, x_0, theta[name]) for model, theta in thetas.items()}
        merged[name] = in_range(name, add(x_0, scale * merge(name, taus)))
    return merged


def check_task_vectors(theta_0: Weights, thetas: Mapping[str, Weights], density: float) -> None:
    """Check that there are fine-tuned models, that all are compatible with theta_0, and that the density is valid."""
    if not thetas:
        raise InputError("Task arithmetic needs at least one fine-tuned model, got none.")
    check_density(density)
    for model, theta in thetas.items():
        check_compatible(theta_0, theta, model)


def check_density(density: float) -> None:
    """Check that a density is in (0, 1]."""
    if not 0 < density <= 1:
        raise InputError(f"density must be above 0 and at most 1, got {density}.")


@dataclass(frozen=True, kw_only=True)
class TaskArithmetic(Several):
    """Task arithmetic: the sum of all task vectors, scaled by alpha."""

    name: ClassVar[str] = "task_arithmetic"
    end: ClassVar[str] = "sum"
    cheap: ClassVar[bool] = True

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_0 plus the sum of all task vectors."""
        return add_task_vectors(theta_0, thetas, 1.0)

    def sentence(self) -> str:
        """Return text for the model card that describes the merged task vector."""
        return "`theta_1 - theta_0` is the sum of the task vectors of the fine-tuned models (task arithmetic)."
