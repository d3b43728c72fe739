"""Entropies of predictions, by which the rule `entropy` chooses alpha without labels."""

from collections.abc import Iterable, Sequence
from math import fsum
from typing import TYPE_CHECKING

from hf_paint.errors import InputError
from hf_paint.results.alphas import Alpha, format_alpha, size
from hf_paint.results.records import ROLES, Result, Role


if TYPE_CHECKING:
    from hf_paint.results.curve import AlphaCurve

SIDES = ROLES[:2]
"""The patching and the supported tasks."""


def select_by_entropy(curve: "AlphaCurve", alphas: Iterable[Alpha]) -> Alpha:
    """Return the alpha with the lowest mean entropy on validation images; of equal ones, the smallest.

    Raises:
        InputError: If there are no alphas, or a record has no entropy.
    """
    entropies = {alpha: mean_entropy(curve, alpha) for alpha in alphas}
    if not entropies:
        raise InputError("There are no records to choose an alpha by.")
    return min(entropies, key=lambda alpha: (entropies[alpha], size(alpha)))


def mean_entropy(curve: "AlphaCurve", alpha: Alpha) -> float:
    """Return the mean relative entropy of the predictions on validation images, in [0, 1].

    As in the rule `mean`, patching and supported tasks have equal weights, regardless of their number.

    Raises:
        InputError: If a task has no record at this alpha, or a record has no entropy.
    """
    if alpha not in curve.points("validation") or any("validation" not in curve.splits(role) for role in SIDES):
        raise InputError(
            f"The rule `entropy` needs a patching and a supported task with validation images, all of them evaluated "
            f"at alpha {format_alpha(alpha)}."
        )
    return mean_of_sides([[_entropy_of(r) for r in _records(curve, alpha, role)] for role in SIDES])


def mean_of_sides(sides: Sequence[Sequence[float]]) -> float:
    """Return the mean over the sides of the means over their tasks."""
    return fsum(fsum(side) / len(side) for side in sides) / len(sides)


def have_entropies(curve: "AlphaCurve", alphas: Iterable[Alpha]) -> bool:
    """Return whether the rule `entropy` can choose among these alphas."""
    records = [r for alpha in alphas for role in SIDES for r in _records(curve, alpha, role)]
    return bool(records) and all(record.relative_entropy is not None for record in records)


def _records(curve: "AlphaCurve", alpha: Alpha, role: Role) -> list[Result]:
    found = [curve.get(alpha, role, task, "validation") for task in curve.tasks.get(role, ())]
    return [result for result in found if result is not None]


def _entropy_of(result: Result) -> float:
    if result.relative_entropy is None:
        raise InputError(
            f"The rule `entropy` needs the entropy of the predictions, which the record of {result.task} "
            f"({result.split}) at alpha {format_alpha(result.alpha)} lacks: the task has several classes per image, "
            "or an earlier version of hf_paint evaluated it. Choose by another rule, or run it in another output_dir."
        )
    return result.relative_entropy
