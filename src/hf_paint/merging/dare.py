"""DARE: drop most entries of task vectors at random (Yu et al., ICML 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_paint.fingerprints import fingerprint_values
from hf_paint.merging.base import Measurements, Several
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.task_arithmetic import check_density, check_task_vectors, merge_task_vectors


def dare(
    theta_0: Weights, thetas: Mapping[str, Weights], scale: float = 1.0, *, density: float = 0.1, seed: int = 0
) -> dict[str, Tensor]:
    """Add task vectors after dropping most of their entries at random (DARE; Yu et al., 2024, Section 3).

    Each entry is kept with probability `density` and divided by `density`, which preserves its expected value. Which
    entries are kept depends only on the seed, the model name and the tensor name, and is the same on every device.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        thetas: Model -> weights after fine-tuning, with the same names, shapes and dtypes.
        scale: Factor for the sum of the task vectors.
        density: Probability of keeping an entry, in (0, 1]; `1 - p` in the paper.
        seed: Random seed.

    Returns:
        name -> tensor, in the dtypes and on the devices of theta_0.

    Raises:
        InputError: If the weights are not compatible, an integer tensor differs, or the density is out of range.

    Example:
        >>> dare({"w": torch.zeros(5)}, {"a": {"w": torch.ones(5)}}, density=0.5)["w"].unique()
        tensor([0., 2.])
    """
    check_task_vectors(theta_0, thetas, density)

    def merge(name: str, taus: Mapping[str, Tensor]) -> Tensor:
        total = torch.zeros_like(next(iter(taus.values())))
        for model, tau in taus.items():
            total += _drop_randomly(tau, density, fingerprint_values(seed, model, name))
        return total

    return merge_task_vectors(theta_0, thetas, scale, merge)


def _drop_randomly(tau: Tensor, density: float, fingerprint: str) -> Tensor:
    generator = torch.Generator().manual_seed(int(fingerprint, 16))
    is_dropped = torch.rand(tau.shape, generator=generator) >= density
    return (tau / density).masked_fill_(is_dropped.to(tau.device), 0)


@dataclass(frozen=True, kw_only=True)
class Dare(Several):
    """DARE: the sum of task vectors after most of their entries are dropped at random."""

    name: ClassVar[str] = "dare"
    end: ClassVar[str] = "DARE"
    cheap: ClassVar[bool] = True
    density: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_density(self.density)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_0 plus the sparsified task vectors."""
        return dare(theta_0, thetas, density=self.density, seed=self.seed)

    def sentence(self) -> str:
        """Return text for the model card that gives the fraction of entries kept."""
        return (
            "`theta_1 - theta_0` is the sum of the task vectors of the fine-tuned models, each reduced to a random "
            f"{100 * self.density:g} % of its entries, scaled up to preserve the expectation (DARE, seed {self.seed})."
        )
