"""The rules that choose alpha from validation accuracies, and their result as `selection.json` stores it."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal, NamedTuple, TypedDict, get_args

from hf_paint.errors import InputError, did_you_mean
from hf_paint.results.alphas import Alpha, size


SelectionRule = Literal["mean", "supported_within"]
LOSS_WEIGHT = 10
"""The penalty per point of supported loss beyond the tolerance, in points of patching accuracy."""


class Sides(NamedTuple):
    """The mean accuracies of an alpha on the patching and on the supported tasks."""

    patching: Fraction
    supported: Fraction


def select(
    sides: Mapping[Alpha, Sides], rule: SelectionRule, *, tolerance: float, baseline: Fraction | None = None
) -> Alpha:
    """Choose among alphas; see `AlphaCurve.select`.

    Raises:
        InputError: If the rule is unknown, or `supported_within` has neither a baseline nor alpha 0.

    Example:
        >>> sides = {0.0: Sides(Fraction(1, 2), Fraction(9, 10)), 1.0: Sides(Fraction(1), Fraction(4, 5))}
        >>> select(sides, "mean", tolerance=0), select(sides, "supported_within", tolerance=0.01)
        (1.0, 0.0)
    """
    if rule not in get_args(SelectionRule):
        raise InputError(f"Unknown selection rule '{rule}'.{did_you_mean(rule, get_args(SelectionRule))}")
    if rule == "mean":
        return max(sides, key=lambda alpha: (sum(sides[alpha]), -size(alpha)))
    if baseline is None and 0.0 not in sides:
        raise InputError("`supported_within` compares with alpha 0, which was not evaluated.")
    floor = (sides[0.0].supported if baseline is None else baseline) - Fraction(str(tolerance))
    within = [alpha for alpha, side in sides.items() if side.supported >= floor]
    nearest = max(sides, key=lambda alpha: sides[alpha].supported)
    return max(within or [nearest], key=lambda alpha: (sides[alpha].patching, -size(alpha)))


def mean_score(side: Sides) -> float:
    """Return the mean of patching and supported accuracy."""
    return float(sum(side)) / 2


def penalised_score(side: Sides, side_0: Sides, *, tolerance: float) -> float:
    """Return the patching accuracy minus a penalty on the supported loss that exceeds the tolerance."""
    loss = float(side_0.supported - side.supported) - tolerance
    return float(side.patching) - LOSS_WEIGHT * max(0.0, loss)


class Selection(TypedDict):
    """The keys of `selection.json` besides the gains.

    Attributes:
        alpha: The selected alpha, as `alpha_to_json` returns it.
        rule: The selection rule, or `none` for a method that determines alpha.
        tolerance: The accepted loss of supported accuracy, as a fraction of 1.
        num_alphas: The number of candidates.
        chosen_on: The split that the rule used.
        reported_on: The split whose accuracies the card shows.
    """

    alpha: float | dict[str, float]
    rule: str
    tolerance: float
    num_alphas: int
    chosen_on: str
    reported_on: str
