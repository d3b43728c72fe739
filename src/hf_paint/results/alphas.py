"""Where a model is between theta_0 and what it was fine-tuned to: an alpha, or one coefficient per task."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias


DEFAULT_ALPHAS = tuple(round(0.1 * step, 1) for step in range(11))
"""The grid of the released code of PAINT."""


class Coefficients(Mapping[str, float]):
    """One coefficient per task, as immutable as an alpha (PAINT, Section 5: sequential and parallel patching).

    Args:
        values: Task -> its coefficient.

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
"""A number is the same coefficient for everything; 0 is the model before fine-tuning."""


def format_alpha(alpha: Alpha) -> str:
    """Write an alpha with two decimals, or with as many as it needs: 0.3 is `0.30`, 0.125 is `0.125`.

    Example:
        >>> format_alpha(Coefficients({"mnist": 0.3, "gtsrb": 0.125}))
        'mnist 0.30, gtsrb 0.125'
    """
    if isinstance(alpha, Coefficients):
        return ", ".join(f"{task} {format_alpha(value)}" for task, value in alpha.items())
    return max(f"{alpha:.2f}", f"{alpha:.6f}".rstrip("0"), key=len)


def alpha_to_json(alpha: Alpha) -> float | dict[str, float]:
    """Return an alpha as JSON and YAML hold it: a number, or a mapping."""
    return dict(alpha) if isinstance(alpha, Coefficients) else alpha


def alpha_from_json(value: Any) -> Alpha:
    """Read what `alpha_to_json` wrote."""
    return Coefficients(value) if isinstance(value, Mapping) else float(value)


def size(alpha: Alpha) -> float:
    """Return how far from theta_0 an alpha is: itself, or the sum of the coefficients, without their signs."""
    return sum(map(abs, alpha.values())) if isinstance(alpha, Coefficients) else abs(alpha)
