"""The classes of a task at every point: how many images of each are right, and what the others are taken for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hf_paint.report.contents import PerClass
from hf_paint.results.details import Confusion, Details


MOST_CLASSES = 12
"""Classes whose mistakes are shown: those whose accuracy changed most."""
MOST_MISTAKES = 30
"""Kinds of mistakes of these classes that are kept at each point, beside those among themselves."""


def per_class(
    names: Sequence[str], details: Sequence[Details | None], zero_shot: int, chosen: int | None
) -> PerClass | None:
    """Return the counts by class at every point; None without class names, or without details of zero-shot.

    Args:
        names: Class names in the order of the logits.
        details: Details of each point.
        zero_shot: Position of zero-shot.
        chosen: Position of the chosen point; by default, mistakes are those of the classes that change most anywhere.
    """
    confusions = [None if found is None else found.confusion for found in details]
    before, count = confusions[zero_shot], len(names)
    if not names or before is None:
        return None
    total = before.total(count)
    correct = [None if confusion is None else confusion.correct(count) for confusion in confusions]
    at_chosen = correct[chosen] if chosen not in (None, zero_shot) else None
    after = [counts for counts in correct if counts is not None] if at_chosen is None else [at_chosen]
    change = np.max([np.abs(counts - before.correct(count)) for counts in after], axis=0) / np.maximum(total, 1)
    shown = np.isin(np.arange(count), np.argsort(-change, kind="stable")[:MOST_CLASSES]) & (change > 0)
    return PerClass(
        classes=list(names),
        total=total.tolist(),
        correct=[None if counts is None else counts.tolist() for counts in correct],
        confusion=[None if confusion is None else _mistakes(confusion, shown) for confusion in confusions],
    )


def _mistakes(confusion: Confusion, shown: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Return (class, predicted class, images) of mistakes on the classes to show, the most frequent first.

    They are the most frequent ones, and all among the classes to show, which are the cells of a matrix.
    """
    wrong = np.flatnonzero(shown[confusion.classes] & (confusion.classes != confusion.predicted))
    wrong = wrong[np.argsort(-confusion.images[wrong], kind="stable")]
    kept = wrong[(np.arange(len(wrong)) < MOST_MISTAKES) | shown[confusion.predicted[wrong]]]
    columns = (confusion.classes, confusion.predicted, confusion.images)
    return [(a, b, n) for a, b, n in zip(*(column[kept].tolist() for column in columns), strict=True)]
