"""Counts as class names: `three` or `3`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError


NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
"""The word of each number from 0."""


def count_values(class_names: Sequence[str]) -> NDArray[np.int64]:
    """Return the numbers that class names mean, shape (num_classes,).

    Raises:
        InputError: If one is no number in digits, and no word from zero to twenty.

    Example:
        >>> count_values(["three", "Ten", "12"])
        array([ 3, 10, 12])
    """
    values = []
    for name in class_names:
        word = name.strip().casefold()
        if not word.isdecimal() and word not in NUMBER_WORDS:
            raise InputError(f"`counting` takes class names such as 3 or three, up to twenty in words; got '{name}'.")
        values.append(int(word) if word.isdecimal() else NUMBER_WORDS.index(word))
    return np.array(values, dtype=np.int64)
