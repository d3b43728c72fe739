"""95 % intervals of accuracies: of one task, and of the mean over several."""

import math
from collections.abc import Sequence

from hf_paint.results.records import Result
from hf_paint.results.tables import Interval


Z = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


def wilson_interval(correct: int, total: int) -> Interval:
    """Return the 95 % interval of a proportion (Wilson, 1927), as fractions of 1.

    Example:
        >>> [round(bound, 4) for bound in wilson_interval(5, 10)]
        [0.2366, 0.7634]
    """
    share, weight = correct / total, Z**2 / total
    middle = (share + weight / 2) / (1 + weight)
    width = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return max(0.0, middle - width), min(1.0, middle + width)


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
