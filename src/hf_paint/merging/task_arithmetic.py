"""Task arithmetic: sums of task vectors (Ilharco et al., ICLR 2023), plain, with TIES or with DARE."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
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


def ties(
    theta_0: Weights, thetas: Mapping[str, Weights], scale: float = 1.0, *, density: float = 0.2
) -> dict[str, Tensor]:
    """Add task vectors with less interference: trim, elect signs, merge (TIES; Yadav et al., 2023, Section 4).

    Each task vector keeps its entries of largest magnitude. Each entry elects the sign with the larger total magnitude
    over the models, and averages the values of that sign. A task vector is trimmed over all its tensors together,
    except those that are zero, such as frozen ones. Entries equal to the smallest kept magnitude are kept too.

    Args:
        theta_0: The weights before fine-tuning, name -> tensor.
        thetas: Model -> its weights after fine-tuning, with the same names, shapes and dtypes.
        scale: The scale of the merged task vector.
        density: The share of entries that each task vector keeps, above 0 and at most 1.

    Returns:
        name -> tensor, in the dtypes of the inputs. Entries that no task vector keeps have the bits of theta_0.

    Raises:
        InputError: If the weights are not compatible, an integer tensor differs, or the density is out of range.

    Example:
        >>> thetas = {"a": {"w": torch.tensor([1.0, 0.1])}, "b": {"w": torch.tensor([3.0, -0.2])}}
        >>> ties({"w": torch.zeros(2)}, thetas, density=0.5)
        {'w': tensor([2., 0.])}
    """
    _check(theta_0, thetas, density)
    thresholds = {model: _smallest_kept(theta_0, theta, density) for model, theta in thetas.items()}

    def merge(name: str, taus: Mapping[str, Tensor]) -> Tensor:
        return _elect_and_average([_drop_below(tau, thresholds[model]) for model, tau in taus.items()])

    return _merge(theta_0, thetas, scale, merge)


def dare(
    theta_0: Weights, thetas: Mapping[str, Weights], scale: float = 1.0, *, density: float = 0.1, seed: int = 0
) -> dict[str, Tensor]:
    """Add task vectors after dropping most of their entries at random (DARE; Yu et al., 2024, Section 3).

    Each entry is kept with probability `density` and divided by it, which preserves its expectation. The choice
    depends only on the seed and on the names of the model and the tensor; it is the same on every device.

    Args:
        theta_0: The weights before fine-tuning, name -> tensor.
        thetas: Model -> its weights after fine-tuning, with the same names, shapes and dtypes.
        scale: The scale of the sum of the task vectors.
        density: The probability of keeping an entry, above 0 and at most 1; `1 - p` in the paper.
        seed: The seed of the random choice.

    Raises:
        InputError: If the weights are not compatible, an integer tensor differs, or the density is out of range.

    Example:
        >>> dare({"w": torch.zeros(5)}, {"a": {"w": torch.ones(5)}}, density=0.5)["w"].unique()
        tensor([0., 2.])
    """
    _check(theta_0, thetas, density)

    def merge(name: str, taus: Mapping[str, Tensor]) -> Tensor:
        thinned = [_drop_randomly(tau, density, fingerprint_values(seed, model, name)) for model, tau in taus.items()]
        return torch.stack(thinned).sum(dim=0)

    return _merge(theta_0, thetas, scale, merge)


def check_density(density: float) -> None:
    """Check that a density is above 0 and at most 1."""
    if not 0 < density <= 1:
        raise InputError(f"density must be above 0 and at most 1, got {density}.")


def _elect_and_average(taus: Sequence[Tensor]) -> Tensor:
    """Return the mean of the entries with the elected sign (TIES, Section 4: elect, merge).

    Magnitudes that cancel out elect the positive sign.
    """
    stacked = torch.stack([*taus])  # (num_models, *shape)
    elected = torch.where(stacked.sum(dim=0) >= 0, 1, -1)
    agrees = stacked.sign() == elected
    return (stacked * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)


def _check(theta_0: Weights, thetas: Mapping[str, Weights], density: float) -> None:
    if not thetas:
        raise InputError("Task arithmetic needs at least one fine-tuned model, got none.")
    check_density(density)
    for model, theta in thetas.items():
        check_compatible(theta_0, theta, model)


def _merge(
    theta_0: Weights,
    thetas: Mapping[str, Weights],
    scale: float,
    merge: Callable[[str, Mapping[str, Tensor]], Tensor],
) -> dict[str, Tensor]:
    """Return theta_0 plus the scaled merged task vector, computed one tensor at a time."""
    merged = {}
    for name, x_0 in theta_0.items():
        taus = {model: subtract(name, x_0, theta[name]) for model, theta in thetas.items()}
        merged[name] = add(x_0, scale * merge(name, taus))
    return merged


def _smallest_kept(theta_0: Weights, theta: Weights, density: float) -> float:
    """Return the smallest magnitude that remains after trimming a task vector."""
    magnitudes = [subtract(name, x_0, theta[name]).abs().flatten() for name, x_0 in theta_0.items()]
    moved = [part for part in magnitudes if bool(part.any())]
    if not moved:
        return 0.0
    whole = torch.cat(moved)
    num_dropped = len(whole) - max(1, int(density * len(whole)))
    return float(whole.kthvalue(num_dropped + 1).values)


def _drop_below(tau: Tensor, threshold: float) -> Tensor:
    return torch.where(tau.abs() >= threshold, tau, 0)


def _drop_randomly(tau: Tensor, density: float, fingerprint: str) -> Tensor:
    generator = torch.Generator().manual_seed(int(fingerprint, 16))
    is_kept = torch.rand(tau.shape, generator=generator) < density
    return torch.where(is_kept.to(tau.device), tau / density, 0)


@dataclass(frozen=True, kw_only=True)
class TaskArithmetic(Several):
    """The sum of all task vectors with one scale."""

    name: ClassVar[str] = "task_arithmetic"
    end: ClassVar[str] = "sum"

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_0 plus all task vectors."""
        return add_task_vectors(theta_0, thetas, 1.0)

    def sentence(self) -> str:
        """Return the task vector that alpha scales."""
        return "`theta_1 - theta_0` is the sum of the task vectors of the fine-tuned models (task arithmetic)."


@dataclass(frozen=True, kw_only=True)
class Ties(Several):
    """The sum of task vectors with less interference."""

    name: ClassVar[str] = "ties"
    end: ClassVar[str] = "TIES"
    density: float = 0.2

    def __post_init__(self) -> None:
        check_density(self.density)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_0 plus the merged task vector."""
        return ties(theta_0, thetas, density=self.density)

    def sentence(self) -> str:
        """Return the share of entries that are kept."""
        return (
            "`theta_1 - theta_0` merges the task vectors of the fine-tuned models with TIES: each is trimmed to its "
            f"largest {100 * self.density:g} % of entries, and each weight averages the entries of its elected sign."
        )


@dataclass(frozen=True, kw_only=True)
class Dare(Several):
    """The sum of task vectors after dropping most of their entries."""

    name: ClassVar[str] = "dare"
    end: ClassVar[str] = "DARE"
    density: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_density(self.density)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_0 plus the thinned task vectors."""
        return dare(theta_0, thetas, density=self.density, seed=self.seed)

    def sentence(self) -> str:
        """Return the share of entries that are kept."""
        return (
            "`theta_1 - theta_0` is the sum of the task vectors of the fine-tuned models, each reduced to a random "
            f"{100 * self.density:g} % of its entries, scaled up to preserve the expectation (DARE, seed {self.seed})."
        )
