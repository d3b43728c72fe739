"""Counting: classification tasks whose class names are numbers, `three` or `3` (PAINT, case studies)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError
from hf_paint.tasks.classification import ClassificationTask


NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
"""Number words from zero to twenty; the index of a word is its value."""


@dataclass(frozen=True, kw_only=True)
class CountingTask(ClassificationTask, kind="counting", key="counting"):
    """A classification task whose class names are numbers; records also contain the mean absolute error.

    To make a counting task from photographs, sort them into folders named after the number of objects (`three/`,
    `four/`, ...) and set `dataset: imagefolder`, `data_dir: photographs`, `counting: true` and
    `templates: ["a photo of {} objects."]`.

    Attributes:
        counting: Always True; setting this key makes a task a counting task.
    """

    counting: Literal[True]

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Check that all class names are numbers."""
        super().check_classes(class_names)
        count_values(class_names)


def count_values(class_names: Sequence[str]) -> NDArray[np.int64]:
    """Convert class names to numbers, shape (num_classes,).

    Raises:
        InputError: If a name is neither a number in digits nor a number word from zero to twenty.

    Example:
        >>> count_values(["three", "Ten", "12"])
        array([ 3, 10, 12])
    """
    return np.array([_count_value(name) for name in class_names], dtype=np.int64)


def _count_value(name: str) -> int:
    word = name.strip().casefold()
    if word.isdecimal():
        return int(word)
    if word in NUMBER_WORDS:
        return NUMBER_WORDS.index(word)
    raise InputError(
        f"The class names of a counting task must be numbers, in digits or as words from zero to twenty; got '{name}'."
    )
