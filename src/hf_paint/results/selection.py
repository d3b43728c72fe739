"""Rules for selecting alpha on validation images, and the contents of `selection.json`."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, Literal, NamedTuple, NotRequired, TypedDict, get_args

from hf_paint.errors import InputError, did_you_mean
from hf_paint.results.alphas import Alpha, AlphaJson, size


AccuracyRule = Literal["mean", "supported_within"]
SelectionRule = Literal["mean", "supported_within", "entropy"]
RULES: tuple[SelectionRule, ...] = get_args(SelectionRule)
BY_ENTROPY: Final = "the lowest mean entropy of predictions, without labels"
"""What the rule `entropy` looks for (see `hf_paint.results.entropies`)."""
DEFAULT_RULE: Final = "supported_within"
"""A patch is to improve one task and to break nothing else, and only this rule says how much may be lost: it compares
the validation accuracy of every alpha with that of alpha 0. `mean`, the rule of the papers, takes two points on the
patching tasks for one point on the supported tasks."""
DEFAULT_TOLERANCE: Final = 0.01
"""Loss of supported accuracy that `supported_within` allows by default, as a fraction of 1: one point."""
BY_HAND: Final = "by hand"
"""The rule in `selection.json` if no rule chose alpha."""
LOSS_WEIGHT = 10
"""Penalty, in points of patching accuracy, for each point of supported accuracy lost beyond the tolerance."""


class Sides(NamedTuple):
    """Mean accuracies on the patching and supported tasks for one alpha."""

    patching: Fraction
    supported: Fraction


def select(
    sides: Mapping[Alpha, Sides], rule: AccuracyRule, *, tolerance: float, baseline: Fraction | None = None
) -> Alpha:
    """Select one of the alphas by its accuracies; see `AlphaCurve.select`.

    Raises:
        InputError: If the rule is unknown, there are no alphas, or `supported_within` has neither a baseline nor a
            record for alpha 0.

    Example:
        >>> sides = {0.0: Sides(Fraction(1, 2), Fraction(9, 10)), 1.0: Sides(Fraction(1), Fraction(4, 5))}
        >>> select(sides, "mean", tolerance=0), select(sides, "supported_within", tolerance=0.01)
        (1.0, 0.0)
    """
    if rule not in get_args(AccuracyRule):
        raise InputError(f"Unknown selection rule '{rule}'.{did_you_mean(rule, get_args(SelectionRule))}")
    if not sides:
        raise InputError("There are no records to choose an alpha by.")
    if rule == "mean":
        return max(sides, key=lambda alpha: (sum(sides[alpha]), -size(alpha)))
    if baseline is None and 0.0 not in sides:
        raise InputError("`supported_within` compares each alpha with alpha 0, but alpha 0 was not evaluated.")
    floor = (sides[0.0].supported if baseline is None else baseline) - Fraction(str(tolerance))
    within = [alpha for alpha, side in sides.items() if side.supported >= floor]
    nearest = max(sides, key=lambda alpha: sides[alpha].supported)
    return max(within or [nearest], key=lambda alpha: (sides[alpha].patching, -size(alpha)))


def least_tolerance(sides: Mapping[Alpha, Sides]) -> float | None:
    """Return the smallest tolerance, in steps of 0.001, with which `supported_within` does not choose alpha 0.

    None if no alpha has a higher patching accuracy than alpha 0.

    Example:
        >>> least_tolerance({0.0: Sides(Fraction(1, 2), Fraction(9, 10)), 1.0: Sides(Fraction(1), Fraction(4, 5))})
        0.1
    """
    before = sides[0.0]
    losses = [before.supported - side.supported for side in sides.values() if side.patching > before.patching]
    return math.ceil(1000 * max(min(losses), Fraction(0))) / 1000 if losses else None


def check_tolerance(tolerance: float) -> None:
    """Check that a tolerance is a fraction of 1.

    Raises:
        InputError: If it is negative, or 1 or more.
    """
    if not 0 <= tolerance < 1:
        raise InputError(f"`tolerance` must be at least 0 and below 1 (0.01 is one point), got {tolerance}.")


def mean_score(side: Sides) -> float:
    """Return the mean of patching and supported accuracy."""
    return float(sum(side)) / 2


def penalised_score(side: Sides, side_0: Sides, *, tolerance: float) -> float:
    """Return the patching accuracy minus a penalty for losing more supported accuracy than the tolerance allows."""
    loss = float(side_0.supported - side.supported) - tolerance
    return float(side.patching) - LOSS_WEIGHT * max(0.0, loss)


class EarlierChoice(TypedDict):
    """A choice that was replaced: alpha, rule, tolerance, and when it was made (UTC, ISO 8601)."""

    alpha: AlphaJson
    rule: str
    tolerance: float
    chosen_at: str


class Selection(TypedDict):
    """Contents of `selection.json`.

    Attributes:
        alpha: Selected alpha, as returned by `alpha_to_json`.
        rule: Selection rule, `none` if the method itself determines alpha, or `by hand`.
        tolerance: Maximum loss of supported accuracy, as a fraction of 1.
        num_alphas: Number of candidates.
        chosen_on: Split that alpha was selected on.
        reported_on: Split whose accuracies are shown on the model card.
        gains: Gains on every task, with their intervals (see `Gain`).
        instead_of: Rule of the recipe, if alpha was chosen by hand.
        chosen_at: When alpha was chosen (UTC, ISO 8601), if the folder had another choice before.
        history: Earlier choices, the first one first.
    """

    alpha: AlphaJson
    rule: str
    tolerance: float
    num_alphas: int | None
    chosen_on: str | None
    reported_on: str
    gains: NotRequired[Sequence[Mapping[str, object]]]
    instead_of: NotRequired[str]
    chosen_at: NotRequired[str]
    history: NotRequired[list[EarlierChoice]]
