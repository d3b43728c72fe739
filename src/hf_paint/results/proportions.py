"""Confidence interval of an accuracy."""

import math
from collections.abc import Sequence

from hf_paint.results.records import Result
from hf_paint.results.tables import Interval


Z = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


def wilson_interval(correct: int, total: int) -> Interval:
    """Return Wilson's 95 % interval of a proportion (Wilson, 1927), which stays in [0, 1] for any counts.

    Args:
        correct: Number of images that are classified correctly.
        total: Number of images, at least 1.

    Example:
        >>> [round(bound, 4) for bound in wilson_interval(8, 10)]
        [0.4902, 0.9433]
    """
    share, weight = correct / total, Z**2 / total
    centre = share + weight / 2
    margin = Z * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    low, high = (centre - margin) / (1 + weight), (centre + margin) / (1 + weight)
    return (low if correct else 0.0), (high if correct < total else 1.0)


def accuracy_interval(results: Sequence[Result]) -> Interval | None:
    """Return the 95 % interval of the unweighted mean accuracy of tasks, as fractions of 1.

    It combines the intervals of the tasks as if they had no images in common (MOVER; Zou & Donner, 2008). For one
    task, it is Wilson's.

    Args:
        results: Record of each task. Published accuracies, which are not of a known number of images, have no
            interval, and so neither has the mean.

    Returns:
        The bounds, or None.
    """
    if not results or not all(result.correct_file for result in results):
        return None
    bounds = [wilson_interval(result.correct, result.total) for result in results]
    mean = math.fsum(result.accuracy for result in results) / len(results)
    below = math.hypot(*(result.accuracy - low for result, (low, _) in zip(results, bounds, strict=True)))
    above = math.hypot(*(high - result.accuracy for result, (_, high) in zip(results, bounds, strict=True)))
    return mean - below / len(results), mean + above / len(results)
