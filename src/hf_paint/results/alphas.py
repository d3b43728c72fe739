"""Alphas: the position of a model between theta_0 and fine-tuned weights, as a number or one coefficient per task."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias


DEFAULT_ALPHAS = tuple(round(0.1 * step, 1) for step in range(11))
"""Grid used in the released PAINT code."""


class Coefficients(Mapping[str, float]):
    """Immutable, hashable mapping with one coefficient per task (PAINT, Section 5: sequential and parallel patching).

    Args:
        values: Task -> coefficient.

    Example:
        >>> Coefficients({"mnist": 0.3, "gtsrb": 0.2}) == {"mnist": 0.3, "gtsrb": 0.2}
        True
    """

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = {str(task): float(value) for task, value in values.items()}

    def __getitem__(self, task: str) -> float:
        return self._values[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return f"Coefficients({self._values})"


Alpha: TypeAlias = float | Coefficients
"""A number, or one coefficient per task. 0 is the model before fine-tuning."""

AlphaJson: TypeAlias = float | dict[str, float]
"""An alpha as stored in JSON and YAML: a number, or task -> coefficient."""


def format_alpha(alpha: Alpha) -> str:
    """Format an alpha with two decimals, or more if needed: 0.3 gives `0.30`, 0.125 gives `0.125`.

    Example:
        >>> format_alpha(Coefficients({"mnist": 0.3, "gtsrb": 0.125}))
        'mnist 0.30, gtsrb 0.125'
    """
    if isinstance(alpha, Coefficients):
        return ", ".join(f"{task} {format_alpha(value)}" for task, value in alpha.items())
    return max(f"{alpha:.2f}", f"{alpha:.6f}".rstrip("0"), key=len)


def alpha_to_json(alpha: Alpha) -> AlphaJson:
    """Convert an alpha to a value for JSON and YAML."""
    return dict(alpha) if isinstance(alpha, Coefficients) else alpha


def alpha_from_json(value: AlphaJson | str) -> Alpha:
    """Convert a value from `alpha_to_json`, or a number as text, to an alpha."""
    return Coefficients(value) if isinstance(value, Mapping) else float(value)


def size(alpha: Alpha) -> float:
    """Return the distance of an alpha from theta_0: its absolute value, or the sum of the absolute coefficients."""
    return sum(map(abs, alpha.values())) if isinstance(alpha, Coefficients) else abs(alpha)
