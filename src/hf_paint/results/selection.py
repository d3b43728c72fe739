"""Rules for selecting alpha from validation accuracies, and the contents of `selection.json`."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Literal, NamedTuple, TypedDict, get_args

from hf_paint.errors import InputError, did_you_mean
from hf_paint.results.alphas import Alpha, size


SelectionRule = Literal["mean", "supported_within"]
LOSS_WEIGHT = 10
"""Penalty, in points of patching accuracy, for each point of supported accuracy lost beyond the tolerance."""


class Sides(NamedTuple):
    """Mean accuracies on the patching and supported tasks for one alpha."""

    patching: Fraction
    supported: Fraction


def select(
    sides: Mapping[Alpha, Sides], rule: SelectionRule, *, tolerance: float, baseline: Fraction | None = None
) -> Alpha:
    """Select one of the alphas; see `AlphaCurve.select`.

    Raises:
        InputError: If the rule is unknown, or if `supported_within` has neither a baseline nor a record for alpha 0.

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
        raise InputError("`supported_within` compares each alpha with alpha 0, but alpha 0 was not evaluated.")
    floor = (sides[0.0].supported if baseline is None else baseline) - Fraction(str(tolerance))
    within = [alpha for alpha, side in sides.items() if side.supported >= floor]
    nearest = max(sides, key=lambda alpha: sides[alpha].supported)
    return max(within or [nearest], key=lambda alpha: (sides[alpha].patching, -size(alpha)))


def mean_score(side: Sides) -> float:
    """Return the mean of patching and supported accuracy."""
    return float(sum(side)) / 2


def penalised_score(side: Sides, side_0: Sides, *, tolerance: float) -> float:
    """Return the patching accuracy minus a penalty for losing more supported accuracy than the tolerance allows."""
    loss = float(side_0.supported - side.supported) - tolerance
    return float(side.patching) - LOSS_WEIGHT * max(0.0, loss)


class Selection(TypedDict):
    """Contents of `selection.json`, except for the gains.

    Attributes:
        alpha: Selected alpha, as returned by `alpha_to_json`.
        rule: Selection rule, or `none` if the method itself determines alpha.
        tolerance: Maximum loss of supported accuracy, as a fraction of 1.
        num_alphas: Number of candidates.
        chosen_on: Split that alpha was selected on.
        reported_on: Split whose accuracies are shown on the model card.
    """

    alpha: float | dict[str, float]
    rule: str
    tolerance: float
    num_alphas: int
    chosen_on: str
    reported_on: str
