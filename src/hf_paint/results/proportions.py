"""Confidence interval of an accuracy."""

import math

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
