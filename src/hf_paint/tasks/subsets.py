"""Which part of a data set a task uses: the names of its splits, and optionally one half of its classes."""

from dataclasses import dataclass

import numpy as np

from hf_paint.errors import InputError


AUTO, STRATIFIED, GUESS = "auto", "stratified", "guess"
"""Values of a split that is not a split of the data set."""
DRAWN = (AUTO, STRATIFIED)
"""Those that draw rows from the train split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Split names in the data set; None if the task has no such split.

    Names may be expressions like `train[:80%]`. `stratified` takes a fifth of each class from the train split or, if
    the other of validation and test is not `stratified`, a quarter. With `guess` in a task with `guess: true`, the
    data decide: the split with that name or, if there is none, `stratified`.

    Attributes:
        train: A split name, or None for a task that is only evaluated.
        validation: A split name, `auto`, `stratified` or None. With `auto`, `min(int(0.1 * N), 5000)` images are taken
            from the train split, as in PAINT. With None, all rows are used for training, and alpha is selected without
            this task.
        test: A split name, `stratified` or None.
    """

    train: str | None = "train"
    validation: str | None = "auto"
    test: str | None = "test"

    def named(self) -> list[str]:
        """Return the splits of the data set that are named here."""
        return [split for split in (self.train, self.validation, self.test) if split not in (None, *DRAWN, GUESS)]

    def source_of(self, split: str) -> str | None:
        """Return the split of the data set from which `train`, `validation` or `test` is read."""
        value = {"train": self.train, "validation": self.validation, "test": self.test}[split]
        return self.train if value in DRAWN else value

    @property
    def stratified(self) -> list[str]:
        """Those of `test` and `validation` that are drawn as `stratified`, in the order in which they are drawn."""
        values = {"test": self.test, "validation": self.validation}
        return [split for split, value in values.items() if value == STRATIFIED]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSplit:
    """One half of the classes of a task, to measure broad transfer from one half to the other (PAINT, Section 5).

    Attributes:
        part: 0 or 1. If the number of classes is odd, part 1 has one more.
        seed: Seed of the permutation that is cut in half.
    """

    part: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.part not in (0, 1) or type(self.part) is not int:
            raise InputError(f"`part` of `class_split` must be 0 or 1, got {self.part!r}.")
        if type(self.seed) is not int or self.seed < 0:
            raise InputError(f"`seed` of `class_split` must be a non-negative integer, got {self.seed!r}.")

    def classes(self, num_classes: int) -> list[int]:
        """Return the sorted class indices of this half.

        Raises:
            InputError: If either half would have fewer than two classes.
        """
        if num_classes < 4:
            raise InputError(f"`class_split` needs at least four classes, two in each half; there are {num_classes}.")
        order = np.random.default_rng(self.seed).permutation(num_classes)
        half = num_classes // 2
        classes: list[int] = np.sort(order[half:] if self.part else order[:half]).tolist()
        return classes
