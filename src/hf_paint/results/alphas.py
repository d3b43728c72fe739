"""Alphas: the position of a model between theta_0 and fine-tuned weights, as a number or one coefficient per task."""

import math
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import SupportsFloat, TypeAlias, TypeVar

import numpy as np

from hf_paint.errors import InputError


DEFAULT_ALPHAS = tuple(round(0.1 * step, 1) for step in range(11))
"""Grid used in the released PAINT code."""
DECIMALS = 12
"""Two numbers that are equal when rounded to this many decimals are the same alpha."""
MOST_STEPS = 1000
"""The points of a grid with at most this many steps from 0 to 1 have their exact value, e.g. 1/3."""
DOUBLE, SINGLE = 0.5 * 10**-DECIMALS, 1e-7
"""Largest distance from a point of a grid at which a number in float64 or float32 stands for that point."""


def canonical_alpha(alpha: SupportsFloat | str) -> float:
    """Return the one number that stands for an alpha in records, file names, branches and recipes.

    The same alpha can be computed in several ways that differ in the last digit: `np.arange(0, 1.1, 0.1)` contains
    0.30000000000000004 and the list `[i / 10 for i in range(11)]` contains 0.3. Every number that enters the library
    as an alpha passes through this function, so that they are one alpha. A number in float32 is read as the fraction
    or decimal number it was rounded from, and -0.0 as 0.

    Args:
        alpha: A number, or a number as text.

    Raises:
        InputError: If `alpha` is not a number.

    Example:
        >>> canonical_alpha(0.1 + 0.2), canonical_alpha("1e-7"), canonical_alpha(1 / 3)
        (0.3, 1e-07, 0.3333333333333333)
    """
    try:
        number = float(alpha)
    except (TypeError, ValueError) as error:
        raise InputError(f"alpha must be a number, got {alpha!r}.") from error
    return _canonical(number) if math.isfinite(number) else number


@lru_cache(maxsize=10_000)
def _canonical(number: float) -> float:
    rounded, tolerance = round(number, DECIMALS), DOUBLE
    if rounded != number and float(np.float32(number)) == number:
        rounded, tolerance = round(float(str(np.float32(number))), DECIMALS), SINGLE
    on_grid = float(Fraction(number).limit_denominator(MOST_STEPS))
    if abs(on_grid - number) < tolerance and (on_grid or tolerance == DOUBLE):  # 1e-7 in float32 is not 0
        return on_grid
    return rounded


class Coefficients(Mapping[str, float]):
    """Immutable, hashable mapping with one coefficient per task (PAINT, Section 5: sequential and parallel patching).

    Args:
        values: Task -> coefficient, stored as `canonical_alpha`.

    Example:
        >>> Coefficients({"mnist": 0.3, "gtsrb": 0.2}) == {"mnist": 0.3, "gtsrb": 0.2}
        True
    """

    stored_as = dict[str, float]

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = {str(task): canonical_alpha(value) for task, value in values.items()}

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

AnyAlpha = TypeVar("AnyAlpha", bound=Alpha)
AlphaJson: TypeAlias = float | dict[str, float]
"""An alpha as stored in JSON and YAML: a number, or task -> coefficient."""


def canonical(alpha: Alpha) -> Alpha:
    """Return an alpha in its canonical form; coefficients are always in this form."""
    return alpha if isinstance(alpha, Coefficients) else canonical_alpha(alpha)


def format_alpha(alpha: Alpha) -> str:
    """Format an alpha with two decimals, or more if needed: 0.3 gives `0.30`, 0.125 gives `0.125`.

    Alphas that are not decimal numbers, like 1/3, have six decimals.

    Example:
        >>> format_alpha(Coefficients({"mnist": 0.3, "gtsrb": 0.125})), format_alpha(1e-7), format_alpha(1 / 3)
        ('mnist 0.30, gtsrb 0.125', '0.0000001', '0.333333')
    """
    if isinstance(alpha, Coefficients):
        return ", ".join(f"{task} {format_alpha(value)}" for task, value in alpha.items())
    number = canonical_alpha(alpha)
    decimals = DECIMALS if round(number, DECIMALS) == number else 6
    return max(f"{number:.2f}", f"{number:.{decimals}f}".rstrip("0"), key=len)


def alpha_phrase(alpha: Alpha) -> str:
    """Return an alpha as a noun phrase: `alpha 0.40`, or `the coefficients mnist 0.30, gtsrb 0.20`."""
    noun = "the coefficients" if isinstance(alpha, Coefficients) else "alpha"
    return f"{noun} {format_alpha(alpha)}"


def variant_name(alpha: Alpha) -> str:
    """Return the folder or branch name for an alpha: `alpha-0.30`, or `step-2` for the coefficients of two steps.

    Example:
        >>> variant_name(0.3)
        'alpha-0.30'
    """
    return f"step-{len(alpha)}" if isinstance(alpha, Coefficients) else f"alpha-{format_alpha(alpha)}"


def by_name(alphas: Iterable[AnyAlpha]) -> dict[str, AnyAlpha]:
    """Return folder or branch name -> alpha, in the order of the alphas, which must be in their canonical form.

    Raises:
        InputError: If two alphas have the same name, which can only happen to numbers like 1/3 and 0.333333.

    Example:
        >>> by_name([0.0, 0.3, 1e-7])
        {'alpha-0.00': 0.0, 'alpha-0.30': 0.3, 'alpha-0.0000001': 1e-07}
    """
    named: dict[str, AnyAlpha] = {}
    for alpha in alphas:
        other = named.setdefault(variant_name(alpha), alpha)
        if other != alpha:
            raise InputError(f"The alphas {other} and {alpha} have the same name {variant_name(alpha)}. Remove one.")
    return named


def alpha_to_json(alpha: Alpha) -> AlphaJson:
    """Convert an alpha to a value for JSON and YAML."""
    return dict(alpha) if isinstance(alpha, Coefficients) else canonical_alpha(alpha)


def alpha_from_json(value: AlphaJson | str) -> Alpha:
    """Convert a value from `alpha_to_json`, or a number as text, to an alpha."""
    return Coefficients(value) if isinstance(value, Mapping) else canonical_alpha(value)


def size(alpha: Alpha) -> float:
    """Return the distance of an alpha from theta_0: its absolute value, or the sum of the absolute coefficients."""
    return sum(map(abs, alpha.values())) if isinstance(alpha, Coefficients) else abs(alpha)


def is_unpatched(alpha: Alpha) -> bool:
    """Return whether an alpha stands for theta_0 itself: 0, or coefficients that are all 0."""
    return size(alpha) == 0


def total(alpha: Alpha) -> float:
    """Return an alpha as one number with its sign: the number itself, or the sum of the coefficients."""
    return sum(alpha.values()) if isinstance(alpha, Coefficients) else alpha


def in_order(alphas: Iterable[Alpha]) -> tuple[Alpha, ...]:
    """Return the distinct alphas: numbers in ascending order, then coefficients in the order of their records."""
    unique = list(dict.fromkeys(alphas))
    numbers = sorted(alpha for alpha in unique if not isinstance(alpha, Coefficients))
    return (*numbers, *(alpha for alpha in unique if isinstance(alpha, Coefficients)))
