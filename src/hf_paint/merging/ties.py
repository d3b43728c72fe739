"""TIES: trim task vectors, elect signs, and merge (Yadav et al., NeurIPS 2023)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_paint.merging.base import Measurements, Several
from hf_paint.merging.interpolation import Weights, subtract
from hf_paint.merging.task_arithmetic import check_density, check_task_vectors, merge_task_vectors
from hf_paint.weights.compatibility import headers_of
from hf_paint.weights.finite import all_finite, checked


DIGIT = 16
"""Bits by which magnitudes are ranked at a time."""


def ties(
    theta_0: Weights, thetas: Mapping[str, Weights], scale: float = 1.0, *, density: float = 0.2
) -> dict[str, Tensor]:
    """Merge task vectors with less interference: trim, elect signs, merge (TIES; Yadav et al., 2023, Section 4).

    First, each task vector is trimmed to its entries of largest magnitude. Then, for each entry, the sign with the
    larger total magnitude over all models is elected, and the values with that sign are averaged. Trimming ranks the
    entries of all tensors of a model together, ignoring tensors whose task vector is all zeros, e.g. frozen ones. All
    entries tied with the smallest kept magnitude are kept.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        thetas: Model -> weights after fine-tuning, with the same names, shapes and dtypes.
        scale: Factor for the merged task vector.
        density: Fraction of entries to keep in each task vector, in (0, 1].

    Returns:
        name -> tensor, in the same dtypes as the inputs. Entries trimmed from every task vector are bit-identical to
        theta_0.

    Raises:
        InputError: If the weights are not compatible, an integer tensor differs, or the density is out of range.

    Example:
        >>> thetas = {"a": {"w": torch.tensor([1.0, 0.1])}, "b": {"w": torch.tensor([3.0, -0.2])}}
        >>> ties({"w": torch.zeros(2)}, thetas, density=0.5)
        {'w': tensor([2., 0.])}
    """
    check_task_vectors(theta_0, thetas, density)
    theta_0, thetas = checked(theta_0, "theta_0"), all_finite(thetas)
    thresholds = {model: _smallest_kept(theta_0, theta, density) for model, theta in thetas.items()}

    def merge(name: str, taus: Mapping[str, Tensor]) -> Tensor:
        """Return the merged task vector of one tensor."""
        return _elect_and_average([_drop_below(tau, thresholds[model]) for model, tau in taus.items()])

    return merge_task_vectors(theta_0, thetas, scale, merge)


def _elect_and_average(taus: Sequence[Tensor]) -> Tensor:
    """Average the entries that have the elected sign (TIES, Section 4: elect, merge).

    If the entries sum to zero, the positive sign is elected.
    """
    is_positive = sum(taus[1:], start=taus[0]) >= 0
    total, count = torch.zeros_like(taus[0]), torch.zeros_like(taus[0])
    for tau in taus:
        agrees = torch.where(is_positive, tau > 0, tau < 0)
        total += tau * agrees
        count += agrees
    return total / count.clamp_(min=1)


def _smallest_kept(theta_0: Weights, theta: Weights, density: float) -> float:
    """Return the smallest magnitude that is kept when a task vector is trimmed.

    Magnitudes are ordered as their bits are, so it is found digit by digit, 16 bits at a time (radix selection), with
    one tensor in memory.
    """
    double = any(str(header.dtype).endswith("float64") for header in headers_of(theta).values())
    floats, integers = (torch.float64, torch.int64) if double else (torch.float32, torch.int32)
    found, rank, moved = 0, None, [*theta_0]
    for shift in range(torch.iinfo(integers).bits - DIGIT, -1, -DIGIT):
        counts = torch.zeros(1 << DIGIT, dtype=torch.int64)
        for name in [*moved]:
            bits = subtract(name, theta_0[name], theta[name]).abs().flatten().to(floats).view(integers)
            if rank is not None:
                bits = bits[bits >> shift + DIGIT == found]
            elif not bool(bits.any()):
                moved.remove(name)
                continue
            counts += torch.bincount(bits >> shift & (1 << DIGIT) - 1, minlength=len(counts)).cpu()
        if not moved:
            return 0.0
        if rank is None:
            rank = int(counts.sum()) - max(1, int(density * int(counts.sum())))
        up_to = counts.cumsum(0)
        digit = int(torch.searchsorted(up_to, rank, right=True))
        rank -= int(up_to[digit] - counts[digit])
        found = found << DIGIT | digit
    return float(torch.tensor(found, dtype=integers).view(floats))


def _drop_below(tau: Tensor, threshold: float) -> Tensor:
    return torch.where(tau.abs() >= threshold, tau, 0)


@dataclass(frozen=True, kw_only=True)
class Ties(Several):
    """TIES: task vectors are trimmed and merged by elected sign to reduce interference."""

    name: ClassVar[str] = "ties"
    end: ClassVar[str] = "TIES"
    cheap: ClassVar[bool] = True
    density: float = 0.2

    def __post_init__(self) -> None:
        check_density(self.density)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_0 plus the merged task vector."""
        return ties(theta_0, thetas, density=self.density)

    def sentence(self) -> str:
        """Return text for the model card that gives the fraction of entries kept."""
        return (
            "`theta_1 - theta_0` merges the task vectors of the fine-tuned models with TIES: each is trimmed to its "
            f"largest {100 * self.density:g} % of entries, and each weight averages the entries of its elected sign."
        )
