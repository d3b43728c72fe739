"""Task arithmetic: add and subtract task vectors (Ilharco et al., ICLR 2023), as they are, by TIES or by DARE."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.merging.base import Bench, Several
from hf_paint.merging.interpolation import Weights, add, combine, subtract
from hf_paint.weights.compatibility import check_compatible


def add_task_vectors(theta_0: Weights, thetas: Mapping[str, Weights], scale: float) -> dict[str, Tensor]:
    """Return `theta_0 + scale * sum_i (theta_i - theta_0)` (Ilharco et al., 2023, Section 2).

    Args:
        theta_0: The weights before fine-tuning, name -> tensor.
        thetas: Model -> its weights after fine-tuning, with the same names, shapes and dtypes.
        scale: One for all models; a negative one forgets their tasks. For a scale of each, see `combine`.

    Raises:
        InputError: If the weights do not fit together, or an integer tensor differs.

    Example:
        >>> add_task_vectors({"w": torch.zeros(1)}, {"a": {"w": torch.ones(1)}}, -0.5)
        {'w': tensor([-0.5000])}
    """
    return combine(theta_0, thetas, dict.fromkeys(thetas, scale))


def ties(
    theta_0: Weights, thetas: Mapping[str, Weights], scale: float = 1.0, *, density: float = 0.2
) -> dict[str, Tensor]:
    """Add task vectors without their interference: trim, elect signs, merge (TIES; Yadav et al., 2023, Section 4).

    Each task vector keeps the entries of largest magnitude, each entry takes the sign that has more magnitude over the
    models, and what has that sign is averaged. A task vector is trimmed as a whole, over all the tensors in which it
    differs from 0: frozen ones do not count. Magnitudes that equal the smallest one kept are kept too.

    Args:
        theta_0: The weights before fine-tuning, name -> tensor.
        thetas: Model -> its weights after fine-tuning, with the same names, shapes and dtypes.
        scale: Of the merged task vector.
        density: The share of entries that a task vector keeps, above 0 and at most 1.

    Returns:
        name -> tensor, in the dtypes of the inputs. Where no task vector is kept, the bits of theta_0 stay.

    Raises:
        InputError: If the weights do not fit together, an integer tensor differs, or the density is out of range.

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
    """Add task vectors of which most entries are dropped at random (DARE; Yu et al., 2024, Section 3).

    Each entry is kept with probability `density` and divided by it, so that its expectation stays. What is dropped
    depends on the seed and on the names of the model and the tensor only, on every device.

    Args:
        theta_0: The weights before fine-tuning, name -> tensor.
        thetas: Model -> its weights after fine-tuning, with the same names, shapes and dtypes.
        scale: Of the sum of the task vectors.
        density: The probability to keep an entry, above 0 and at most 1; `1 - p` in the paper.
        seed: Of the random choice.

    Raises:
        InputError: If the weights do not fit together, an integer tensor differs, or the density is out of range.

    Example:
        >>> dare({"w": torch.zeros(5)}, {"a": {"w": torch.ones(5)}}, density=0.5)["w"].unique()
        tensor([0., 2.])
    """
    _check(theta_0, thetas, density)

    def merge(name: str, taus: Mapping[str, Tensor]) -> Tensor:
        kept = [_drop_randomly(tau, density, fingerprint_values(seed, model, name)) for model, tau in taus.items()]
        return torch.stack(kept).sum(dim=0)

    return _merge(theta_0, thetas, scale, merge)


def check_density(density: float) -> None:
    """Refuse a share of entries to keep that is not above 0 and at most 1."""
    if not 0 < density <= 1:
        raise InputError(f"density must be above 0 and at most 1, got {density}.")


def _elect_and_average(taus: Sequence[Tensor]) -> Tensor:
    """Return the mean of the entries that have the sign with more magnitude (TIES, Section 4: elect, merge).

    Magnitudes that cancel elect the positive sign.
    """
    stacked = torch.stack([*taus])  # (num_models, *shape)
    elected = torch.where(stacked.sum(dim=0) >= 0, 1, -1)
    agrees = stacked.sign() == elected
    return (stacked * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)


def _check(theta_0: Weights, thetas: Mapping[str, Weights], density: float) -> None:
    if not thetas:
        raise InputError("There is no task vector: pass at least one fine-tuned model.")
    check_density(density)
    for model, theta in thetas.items():
        check_compatible(theta_0, theta, model)


def _merge(
    theta_0: Weights,
    thetas: Mapping[str, Weights],
    scale: float,
    merge: Callable[[str, Mapping[str, Tensor]], Tensor],
) -> dict[str, Tensor]:
    """Return theta_0 plus the scaled merger of the task vectors, one tensor at a time; integers have none."""
    merged = {}
    for name, x_0 in theta_0.items():
        taus = {model: subtract(name, x_0, theta[name]) for model, theta in thetas.items()}
        merged[name] = add(x_0, scale * merge(name, taus))
    return merged


def _smallest_kept(theta_0: Weights, theta: Weights, density: float) -> float:
    """Return the smallest magnitude that trimming a whole task vector keeps."""
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
    kept = torch.rand(tau.shape, generator=generator) < density
    return torch.where(kept.to(tau.device), tau / density, 0)


@dataclass(frozen=True, kw_only=True)
class TaskArithmetic(Several):
    """The sum of the task vectors, with one coefficient."""

    name: ClassVar[str] = "task_arithmetic"
    end: ClassVar[str] = "sum"

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return theta_0 and all task vectors."""
        return add_task_vectors(theta_0, thetas, 1.0)

    def sentence(self) -> str:
        """Return what alpha scales."""
        return "`theta_1 - theta_0` is the sum of the changes of the fine-tuned models (task arithmetic)."


@dataclass(frozen=True, kw_only=True)
class Ties(Several):
    """Task vectors without their interference."""

    name: ClassVar[str] = "ties"
    end: ClassVar[str] = "TIES"
    density: float = 0.2

    def __post_init__(self) -> None:
        check_density(self.density)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return theta_0 and the merged task vector."""
        return ties(theta_0, thetas, density=self.density)

    def sentence(self) -> str:
        """Return what is kept."""
        return (
            "`theta_1 - theta_0` is what is left of the changes of the fine-tuned models after trimming each to its "
            f"largest {100 * self.density:g} % and electing a sign for each weight (TIES)."
        )


@dataclass(frozen=True, kw_only=True)
class Dare(Several):
    """The sum of task vectors of which most entries are dropped."""

    name: ClassVar[str] = "dare"
    end: ClassVar[str] = "DARE"
    density: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_density(self.density)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return theta_0 and the thinned task vectors."""
        return dare(theta_0, thetas, density=self.density, seed=self.seed)

    def sentence(self) -> str:
        """Return what is kept."""
        return (
            "`theta_1 - theta_0` is the sum of the changes of the fine-tuned models, of which a random "
            f"{100 * self.density:g} % of the entries were kept and scaled up (DARE, seed {self.seed})."
        )
