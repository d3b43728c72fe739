"""Find images that look nearly the same: the same picture saved again, in another size, brighter or in grey."""

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm


Thumbnails = NDArray[np.uint8]
THRESHOLD = 0.99
"""Correlation of two thumbnails from which two images are near-duplicates.

A 64-bit difference hash tells less: on road signs (GTSRB), most pairs at its smallest distances are different signs.
"""
ROWS = 16384
"""Number of thumbnails that are compared with others at a time, which limits memory to about 100 MB."""


def find_near_duplicates(
    first: Thumbnails, second: Thumbnails, *, threshold: float = THRESHOLD
) -> list[tuple[int, int, float]]:
    """Return (row in `first`, row in `second`, correlation) for each image of `second` that looks like one of `first`.

    Two images look alike if the pixels of their grey thumbnails have a Pearson correlation of at least the threshold,
    which brightness and contrast do not change. Each image of `second` is listed with the most similar one of `first`.

    Args:
        first: shape (num_first, side, side).
        second: shape (num_second, side, side).
        threshold: Least correlation.

    Example:
        >>> image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
        >>> [(first, second) for first, second, _ in find_near_duplicates(image, image // 2)]
        [(0, 0)]
    """
    best = np.full(len(second), -1, dtype=np.float32)
    rows = np.zeros(len(second), dtype=np.int64)
    starts = [(start, other) for start in range(0, len(first), ROWS) for other in range(0, len(second), ROWS // 16)]
    chunk, chunk_start = _normalized(first[:ROWS]), 0
    for start, other in tqdm(starts, "Comparing images", unit="block", leave=False, disable=len(starts) < 100):
        if start != chunk_start:
            chunk, chunk_start = _normalized(first[start : start + ROWS]), start
        block = slice(other, other + ROWS // 16)
        correlations = _normalized(second[block]) @ chunk.T
        nearest = correlations.argmax(axis=1)
        highest = correlations[np.arange(len(nearest)), nearest]
        is_higher = highest > best[block]
        rows[block][is_higher] = start + nearest[is_higher]
        best[block][is_higher] = highest[is_higher]
    return [(int(rows[row]), int(row), float(best[row])) for row in np.flatnonzero(best >= threshold)]


def _normalized(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Return thumbnails with a mean of 0 and a norm of 1, or of 0 for one that is of a single colour."""
    values = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1)
    return values
