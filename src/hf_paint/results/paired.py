"""Confidence interval for the difference in accuracy of two models on the same images, safe for few changed images.

The bootstrap says nothing about images that were not drawn: two models that agree on 20 images get the interval
[0, 0]. Whether a model may be published is therefore decided with this interval instead.
"""

import math

from scipy.stats import beta

from hf_paint.results.tables import Interval


CONFIDENCE = 0.95
MAX_IMAGES = 100_000_000
"""Largest number of images that `images_needed` returns."""


def paired_interval(won: float, lost: float, total: float, *, confidence: float = CONFIDENCE) -> Interval:
    """Return a confidence interval for the difference in accuracy between two models on the same images.

    The shares of images won and lost have exact intervals (Clopper & Pearson, 1934), which are combined as variance
    estimates recovered from these limits (MOVER; Zou & Donner, 2008, with the correlation of paired shares, as in
    Tang, Li & Tang, 2010). With many changed images, this is about the paired bootstrap interval. With few, it is
    wider, and each of its ends errs in at most `(1 - confidence) / 2` of all samples.

    Args:
        won: Number of images that only the second model classifies correctly.
        lost: Number of images that only the first model classifies correctly.
        total: Number of images.
        confidence: Confidence level.

    Example:
        >>> [round(end, 3) for end in paired_interval(0, 0, 20)]
        [-0.168, 0.168]
        >>> [round(end, 3) for end in paired_interval(20, 50, 1000)]
        [-0.047, -0.013]
    """
    gain, loss = won / total, lost / total
    (gain_low, gain_high), (loss_low, loss_high) = (_exact(count, total, confidence) for count in (won, lost))
    correlation = -math.sqrt(gain * loss / ((1 - gain) * (1 - loss))) if won and lost else 0.0
    low = _distance(gain - gain_low, loss_high - loss, correlation)
    high = _distance(gain_high - gain, loss - loss_low, correlation)
    return max(gain - loss - low, -1.0), min(gain - loss + high, 1.0)


def images_needed(won: int, lost: int, total: int, bound: float) -> int | None:
    """Return about how many images it takes until the interval excludes a bound, if the shares stay as they are.

    Args:
        won: Number of images that only the second model classifies correctly.
        lost: Number of images that only the first model classifies correctly.
        total: Number of images.
        bound: Difference in accuracy that the interval is compared with.

    Returns:
        The number of images, rounded up to two digits; None if the difference is so close to the bound that no
        practical number suffices.

    Example:
        >>> images_needed(0, 0, 20, -0.01)
        370
    """

    def excludes(images: int) -> bool:
        low, high = paired_interval(won * images / total, lost * images / total, images)
        return not low <= bound <= high

    few, enough = total, 2 * total
    while not excludes(enough):
        few, enough = enough, 2 * enough
        if enough > MAX_IMAGES:
            return None
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if excludes(middle) else (middle, enough)
    unit: int = 10 ** max(0, len(str(enough)) - 2)
    return -(-enough // unit) * unit


def _exact(count: float, total: float, confidence: float) -> Interval:
    """Return the Clopper-Pearson interval of a share; counts need not be whole numbers."""
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, count, total - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, total - count)) if count < total else 1.0
    return low, high


def _distance(first: float, second: float, correlation: float) -> float:
    return math.sqrt(first**2 + second**2 - 2 * correlation * first * second)
