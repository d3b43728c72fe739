"""The selection of a run, as `selection.json` holds it."""

from typing import TypedDict


class Selection(TypedDict):
    """The keys of `selection.json` beside the gains.

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
