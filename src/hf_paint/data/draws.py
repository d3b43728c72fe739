"""Draw validation and test rows from a train split: by PAINT's rule (`auto`), or from each class (`stratified`)."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from hf_paint.data.columns import place_of
from hf_paint.data.folder_splits import show
from hf_paint.data.label_lists import NO_CLASS
from hf_paint.errors import warn_once


if TYPE_CHECKING:
    from hf_paint.data.splits import Split

Indices = NDArray[np.int64]


def split_train_validation(num_rows: int, groups: Sequence[object] | None = None) -> tuple[Indices, Indices]:
    """Split the rows of a train split into train and validation rows, as PAINT does.

    `min(int(0.1 * N), 5000)` rows are held out for validation. They are the same rows as those drawn by
    `torch.utils.data.random_split(..., generator=torch.Generator().manual_seed(0))`. If there are groups, whole groups
    are held out, in an order drawn with the same generator, until that number is reached.

    Args:
        num_rows: Number of rows, N.
        groups: shape (num_rows,), group of each row.

    Returns:
        Indices of the train rows and of the validation rows.

    Example:
        >>> int(split_train_validation(60_000)[0][0])
        36044
    """
    num_validation = min(int(0.1 * num_rows), 5000)
    if groups is None:
        order = _permutation(num_rows)
        return order[: num_rows - num_validation], order[num_rows - num_validation :]
    members: dict[object, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    names = sorted(members, key=str)
    train: list[int] = []
    validation: list[int] = []
    for index in reversed(_permutation(len(names))):
        side = validation if len(validation) < num_validation else train
        side.extend(members[names[index]])
    return np.array(sorted(train), dtype=np.int64), np.array(sorted(validation), dtype=np.int64)


def draw_stratified(
    classes: Indices, drawn: Sequence[str], groups: Sequence[Hashable] | Indices | None = None
) -> dict[str, Indices]:
    """Draw splits from the rows of a train split, the same share of each class.

    The n rows of a class are taken in the order `numpy.random.default_rng(0).permutation(n)`. With
    `k = floor((n + 2) / 5)`, a fifth rounded to the nearest integer, the first k are the first drawn split and the
    next k the second; the others stay in train. A single drawn split takes `k = floor((n + 2) / 4)`, a quarter, since
    the ratio is then 20 to 60. Nothing depends on the rows of other classes. Of 1 or 2 rows, a fifth is none; of 3, it
    is 1. Of 1 row, a quarter is none; of 2, it is 1.

    With groups, the draw is among the groups of a class instead of its rows: n is their number, they are numbered in
    the order of their first rows, and a group belongs to the class of its first row. So no group is divided.

    Args:
        classes: shape (num_rows,), class of each row, or another number of its stratum (see `find_strata`).
        drawn: Names of the splits to draw, one or two.
        groups: shape (num_rows,), group of each row.

    Returns:
        `train` and each name in `drawn` -> the indices of its rows, in increasing order.

    Example:
        >>> rows = draw_stratified(np.zeros(10, dtype=np.int64), ["test", "validation"])
        >>> np.random.default_rng(0).permutation(10)
        array([4, 6, 2, 7, 3, 5, 9, 0, 8, 1])
        >>> rows["test"], rows["validation"], rows["train"]
        (array([4, 6]), array([2, 7]), array([0, 1, 3, 5, 8, 9]))
    """
    groups = groups.tolist() if isinstance(groups, np.ndarray) else groups
    unit_of_row, first_rows = _number_groups(range(len(classes)) if groups is None else groups)
    class_of_unit = np.asarray(classes)[first_rows]
    side_of_unit = np.zeros(len(first_rows), dtype=np.int64)  # 0 is train
    for own in _members(class_of_unit):
        order = own[np.random.default_rng(0).permutation(len(own))]
        size = (len(own) + 2) // (3 + len(drawn))
        for side in range(len(drawn)):
            side_of_unit[order[side * size : (side + 1) * size]] = side + 1
    sides = side_of_unit[unit_of_row]
    return {name: np.flatnonzero(sides == side) for side, name in enumerate(["train", *drawn])}


def warn_of_missing_classes(whole: "Split", drawn: Mapping[str, Indices]) -> None:
    """Warn, once per run, of classes that have images, but none in one of the splits drawn from them."""
    task, class_names, labels, lines = whole.task, whole.class_names, whole.labels(), []
    for split, rows in drawn.items():
        missing = np.setdiff1d(labels, [*np.unique(labels[rows]), NO_CLASS])
        if len(missing) and len(class_names):
            names = [class_names[index] for index in missing.tolist()]
            lines.append(f"{len(names)} of its {len(class_names)} classes have no images in {split} ({show(names)})")
    if lines:
        unit = f"groups ('{task.group_column}')" if task.group_column else "images"
        warn_once(
            f"{place_of(task)} has classes of too few {unit} to draw from: {'; '.join(lines)}. Add images, or name "
            "splits of your own in `splits`."
        )


def _number_groups(groups: Sequence[Hashable]) -> tuple[Indices, Indices]:
    """Number groups in the order of their first rows; return the number of each row's group, and these first rows."""
    numbers: dict[Hashable, int] = {}
    first_rows: list[int] = []
    of_rows = np.empty(len(groups), dtype=np.int64)
    for row, group in enumerate(groups):
        if group not in numbers:
            numbers[group] = len(numbers)
            first_rows.append(row)
        of_rows[row] = numbers[group]
    return of_rows, np.array(first_rows, dtype=np.int64)


def _members(classes: Indices) -> list[Indices]:
    """Return the indices of the members of each class, in increasing order."""
    order = np.argsort(classes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)


def _permutation(count: int) -> Indices:
    return np.asarray(torch.randperm(count, generator=torch.Generator().manual_seed(0)))
