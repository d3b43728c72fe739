"""Data sets of a task: loading, checks, and the validation split (PAINT's rule)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Image, IterableDataset
from numpy.typing import NDArray

from hf_paint.data.choices import Choices, distinct_texts, drop_bad_rows, label_columns, read_choices
from hf_paint.data.labels import normalise, read_classes
from hf_paint.data.sources import check_columns, load_rows, stream_fingerprint, stream_length
from hf_paint.errors import InputError, did_you_mean
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.counting import count_values
from hf_paint.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """The rows of one split of a task.

    Attributes:
        task: The task.
        name: `train`, `validation` or `test`.
        rows: The rows, the image column decoded to PIL images; a stream if the task streams.
        class_ids: Maps the data set's label (an integer, or a name as it is and normalised) to the class index.
        class_names: The class names of the task.
        fingerprint: Fingerprint of the rows.
        choices: The candidates of each row of a multiple-choice task, whose class names are the texts of all of them.
    """

    task: Task
    name: str
    rows: Dataset | IterableDataset
    class_ids: dict[Any, int]
    class_names: tuple[str, ...]
    fingerprint: str
    choices: Choices | None = None

    def labels(self) -> NDArray[np.int64]:
        """Return the class index of each row, or the position of its answer, shape (num_rows,)."""
        if self.choices is not None:
            return self.choices.labels
        column = self.rows[self.task.label_column][:]
        return np.array([self.class_id(label) for label in column], dtype=np.int64)

    def written(self, labels: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the class index of the word that is written on each image, for class indices `labels` (num_rows,).

        None where nothing is written, and for the train split, where it depends on the epoch.
        """
        task, rows = self.task, self.rows
        if task.attack is not None and self.name != "train":
            return task.attack.written(labels, self.class_names, self.name)
        if task.text_column is None:
            return None
        names = getattr(rows.features[task.text_column], "names", None)
        words = rows[task.text_column][:]
        return np.array([self.class_id(names[word] if names else word) for word in words], dtype=np.int64)

    def targets(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return what the head of the task takes as labels, a number or a row of them for each one (num_rows,)."""
        return labels if self.choices is None else self.choices.targets(self.class_names)

    def class_id(self, label: Any) -> int:
        """Return the index of the class name that a label of the data set means."""
        found = self.class_ids.get(label)
        if found is None and isinstance(label, str):
            found = self.class_ids.get(normalise(label))
        if found is None:
            raise InputError(
                f"Task '{self.task.name}' ({self.name}) holds the label {label!r}, which is none of its "
                f"{len(self.class_names)} classes."
            )
        return found


def load_splits(task: Task, names: Sequence[str] = ("train", "validation", "test")) -> dict[str, Split]:
    """Load splits of a task; those that the task does not have are left out.

    Args:
        task: The task.
        names: Which of `train`, `validation` and `test` are wanted.

    Returns:
        name -> split. An `auto` validation split is taken out of train.

    Raises:
        InputError: If the data set, a split or a column does not exist, a split is empty, or the labels are not those
            of the task.
    """
    loaded: dict[str, Split] = {}
    for name in names:
        source = getattr(task.splits, name)
        if name == "validation" and source == "auto":
            source = task.splits.train
        if source is not None:
            loaded[name] = _load_split(task, name, source)
    if task.choices_column is None:
        return loaded
    texts = distinct_texts([split.choices for split in loaded.values() if split.choices is not None])
    return {name: replace(split, class_names=texts) for name, split in loaded.items()}


def split_train_validation(
    num_rows: int, groups: Sequence[Any] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the rows of a train split into train and validation as PAINT does.

    `min(int(0.1 * N), 5000)` rows are held out, drawn as
    `torch.utils.data.random_split(..., generator=torch.Generator().manual_seed(0))` draws them. With groups, whole
    groups are held out, in the order of the same generator, until that number is reached.

    Args:
        num_rows: N.
        groups: shape (num_rows,), the group of each row.

    Returns:
        The indices of the train rows and of the validation rows.

    Example:
        >>> int(split_train_validation(60_000)[0][0])
        36044
    """
    num_validation = min(int(0.1 * num_rows), 5000)
    if groups is None:
        order = _permutation(num_rows)
        return order[: num_rows - num_validation], order[num_rows - num_validation :]
    members: dict[Any, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    names = sorted(members, key=str)
    train: list[int] = []
    validation: list[int] = []
    for index in reversed(_permutation(len(names))):
        side = validation if len(validation) < num_validation else train
        side.extend(members[names[index]])
    return np.array(sorted(train), dtype=np.int64), np.array(sorted(validation), dtype=np.int64)


def _load_split(task: Task, name: str, source: str) -> Split:
    rows = load_rows(task, source)
    check_columns(task, rows)
    if isinstance(rows, Dataset) and task.choices_column is not None:
        rows = drop_bad_rows(task, rows, source)
    class_names, class_ids = read_classes(task, rows)
    if task.counting:
        count_values(class_names)
    rows = rows.cast_column(task.image_column, Image(decode=True))
    if task.splits.validation == "auto" and name in ("train", "validation"):
        rows = _take_side(task, rows, source, side=0 if name == "train" else 1)
    if task.where:
        rows = _take_matching(rows, task.where)
    rows = rows.select_columns([task.image_column, *label_columns(task).values()])
    fingerprint = rows._fingerprint if isinstance(rows, Dataset) else stream_fingerprint(task, name)
    split = Split(
        task=task,
        name=name,
        rows=rows,
        class_ids=class_ids,
        class_names=class_names,
        fingerprint=fingerprint,
        choices=read_choices(task, rows) if task.choices_column is not None else None,
    )
    if isinstance(rows, Dataset):
        split.labels()  # a label that is no class of the task is found here, before anything expensive
    split = _take_some_classes(split)
    if task.text_column is not None:
        split.written(split.labels())  # and so is a word that is no class
    if isinstance(split.rows, Dataset) and not len(split.rows):
        raise InputError(
            f"The split '{source}' of '{task.dataset}' (task '{task.name}') is empty: no rows are left for {name}."
        )
    return split


def _take_matching(rows: Dataset, where: Mapping[str, Any]) -> Dataset:
    """Keep the rows of which some columns have these values."""
    matches = [np.array(rows[column][:], dtype=object) == value for column, value in where.items()]
    return rows.select(np.flatnonzero(np.all(matches, axis=0)))


def _take_some_classes(split: Split) -> Split:
    """Keep the classes that `class_split` and `only_classes` of the task say."""
    task = split.task
    if task.class_split is not None:
        split = _take_classes(split, task.class_split.classes(len(split.class_names)))
    if task.only_classes is not None:
        split = _take_only(split, task.only_classes, own_head=task.own_head)
    return split


def _take_only(split: Split, names: Sequence[str], *, own_head: bool) -> Split:
    """Keep the rows of some classes, and all classes unless the head is to be their own."""
    for name in names:
        if name not in split.class_names:
            raise InputError(
                f"`only_classes` of task '{split.task.name}' names '{name}', which is none of its "
                f"{len(split.class_names)} classes.{did_you_mean(name, split.class_names)}"
            )
    classes = [index for index, name in enumerate(split.class_names) if name in names]
    return _take_classes(split, classes) if own_head else _take_rows(split, classes)


def _take_rows(split: Split, classes: Sequence[int]) -> Split:
    """Keep the rows of some classes."""
    if isinstance(split.rows, Dataset):
        rows = split.rows.select(np.flatnonzero(np.isin(split.labels(), classes)))
    else:
        column = split.task.label_column
        rows = split.rows.filter(lambda label: split.class_id(label) in classes, input_columns=[column])
    return replace(split, rows=rows, fingerprint=fingerprint_values(split.fingerprint, list(classes)))


def _take_classes(split: Split, classes: Sequence[int]) -> Split:
    """Keep the rows and the names of some classes, which are counted anew."""
    new = {old: index for index, old in enumerate(classes)}
    return replace(
        _take_rows(split, classes),
        class_ids={label: new[old] for label, old in split.class_ids.items() if old in new},
        class_names=tuple(split.class_names[old] for old in classes),
    )


def _take_side(task: Task, rows: Dataset | IterableDataset, source: str, *, side: int) -> Dataset | IterableDataset:
    """Keep the train rows (side 0) or the validation rows (side 1) of a train split."""
    if isinstance(rows, Dataset):
        groups = rows[task.group_column][:] if task.group_column else None
        return rows.select(split_train_validation(len(rows), groups)[side])
    if task.group_column:
        raise InputError(f"Task '{task.name}' streams, so it cannot keep groups together: name a validation split.")
    kept = set(split_train_validation(stream_length(task, source))[side].tolist())
    return rows.filter(lambda _, index: index in kept, with_indices=True, input_columns=[task.label_column])


def _permutation(count: int) -> NDArray[np.int64]:
    order: NDArray[np.int64] = torch.randperm(count, generator=torch.Generator().manual_seed(0)).numpy()
    return order
