"""The part of a data set that a task uses: its splits, and one half of its classes."""

from dataclasses import dataclass

import numpy as np

from hf_paint.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The names of the splits of a data set; None for a split that the task lacks.

    `validation` is the name of a split, `auto` (drawn from train by PAINT's rule: `min(int(0.1 * N), 5000)` images),
    or None: train on all rows, and ignore the task in the selection of alpha.
    """

    train: str | None = "train"
    validation: str | None = "auto"
    test: str | None = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSplit:
    """One half of the classes of a task, for broad transfer from one half to the other (PAINT, Section 5).

    Attributes:
        part: 0 or 1; of an odd number of classes, part 1 has one more.
        seed: The seed of the permutation whose halves are the parts.
    """

    part: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.part not in (0, 1) or type(self.part) is not int:
            raise InputError(f"`part` of `class_split` must be 0 or 1, got {self.part!r}.")
        if type(self.seed) is not int or self.seed < 0:
            raise InputError(f"`seed` of `class_split` must be a whole number of at least 0, got {self.seed!r}.")

    def classes(self, num_classes: int) -> list[int]:
        """Return the sorted indices of the classes of this half.

        Raises:
            InputError: If there are fewer than two classes for each half.
        """
        if num_classes < 4:
            raise InputError(f"`class_split` needs four classes or more, two for each half; there are {num_classes}.")
        order = np.random.default_rng(self.seed).permutation(num_classes)
        half = num_classes // 2
        classes: list[int] = np.sort(order[half:] if self.part else order[:half]).tolist()
        return classes
