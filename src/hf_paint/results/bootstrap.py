"""Bootstrap confidence intervals for the difference in accuracy between two models on the same images."""

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError


NUM_RESAMPLES = 2000
"""Number of bootstrap resamples per interval."""


def paired_bootstrap_interval(
    correct_0: NDArray[np.bool_], correct_1: NDArray[np.bool_], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % paired bootstrap interval for `mean(correct_1) - mean(correct_0)`.

    On each image, the difference is -1, 0 or 1. Sampling images with replacement is therefore equivalent to sampling
    these three counts from a multinomial distribution, which gives the same bootstrap (Efron & Tibshirani, 1993,
    Section 8.3) at a fraction of the cost.

    Args:
        correct_0: Whether the first model classifies each image correctly, shape (num_images,).
        correct_1: Whether the second model classifies each image correctly, with the images in the same order.
        num_resamples: Number of bootstrap resamples.
        seed: Random seed.

    Raises:
        InputError: If the shapes differ, or there are no images.

    Example:
        >>> paired_bootstrap_interval(np.zeros(50, dtype=bool), np.ones(50, dtype=bool))
        (1.0, 1.0)
    """
    if correct_0.shape != correct_1.shape or correct_0.ndim != 1 or not len(correct_0):
        raise InputError(
            "Paired resampling requires two non-empty vectors with the same shape, got "
            f"{correct_0.shape} and {correct_1.shape}."
        )
    total = len(correct_0)
    won = int(np.count_nonzero(correct_1 & ~correct_0))
    lost = int(np.count_nonzero(correct_0 & ~correct_1))
    shares = np.array([won, lost, total - won - lost]) / total
    counts = np.random.default_rng(seed).multinomial(total, shares, size=num_resamples)  # (num_resamples, 3)
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / total, [0.025, 0.975])
    return float(low), float(high)
