"""The label column of a task: one label per image or, of a multi-label task, a list or text with a separator."""

from collections.abc import Iterable, Sequence

import numpy as np
from datasets import Dataset, IterableDataset, LargeList, List, Value
from numpy.typing import NDArray

from hf_paint.errors import InputError
from hf_paint.tasks.classification import LabelledTask
from hf_paint.tasks.multi_label import MultiLabelTask
from hf_paint.tasks.names import number_of, spelled


NO_CLASS = -1
"""Padding after the classes of an image that has fewer classes than another one."""


def label_type(task: LabelledTask, rows: Dataset | IterableDataset) -> object:
    """Return the feature of a label, also of those in lists; None if a stream does not tell."""
    feature = (rows.features or {}).get(task.label_column)
    if not isinstance(task, MultiLabelTask) or isinstance(rows, IterableDataset):
        return feature
    if isinstance(feature, (List, LargeList)):
        return feature.feature
    return Value("int64" if _are_positions(task, _texts(task, rows)) else "string")


def distinct_labels(task: LabelledTask, rows: Dataset) -> set[object]:
    """Return the distinct labels in rows as they are in the data set, also those in lists; None is a missing label."""
    if isinstance(task, MultiLabelTask) and task.label_separator is not None:
        return {label for own in label_lists(task, rows) for label in own}
    values = rows[task.label_column][:]
    return {label for value in values for label in (value if isinstance(value, list) else [value])}


def label_lists(task: MultiLabelTask, rows: Dataset) -> list[list[object]]:
    """Return the labels of each row as they are in the data set, a list that may be empty.

    Raises:
        InputError: If a row has no list.
    """
    if not isinstance(rows.features[task.label_column], (List, LargeList)):
        texts = _texts(task, rows)
        read = int if _are_positions(task, texts) else spelled
        return [[read(text) for text in row] for row in texts]
    lists: list[list[object]] = rows[task.label_column][:]
    for index, row in enumerate(lists):
        if row is None:
            raise InputError(
                f"Row {index} of '{task.dataset}' has no list in '{task.label_column}' of task '{task.name}'. Write "
                "an empty list if the image shows none of the classes."
            )
    return lists


def pad(classes: Sequence[Iterable[int]]) -> NDArray[np.int64]:
    """Return the classes of each image, in ascending order and each once, padded with -1.

    Returns:
        shape (num_images, max_classes), with at least one column.

    Example:
        >>> pad([[2, 0, 2], []])
        array([[ 0,  2],
               [-1, -1]])
    """
    distinct = [sorted(set(row)) for row in classes]
    padded = np.full((len(distinct), max([1, *map(len, distinct)])), NO_CLASS, dtype=np.int64)
    for row, own in zip(padded, distinct, strict=True):
        row[: len(own)] = own
    return padded


def labelled(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each image has a class, shape (num_images,), given one class of each image or padded lists.

    The one class of an image without a label is -1.
    """
    has_class: NDArray[np.bool_] = (labels[:, 0] if labels.ndim > 1 else labels) != NO_CLASS
    return has_class


def _texts(task: MultiLabelTask, rows: Dataset) -> list[list[str]]:
    texts = ((text or "").split(task.label_separator) for text in rows[task.label_column][:])
    return [[part.strip() for part in parts if part.strip()] for parts in texts]


def _are_positions(task: MultiLabelTask, texts: Iterable[Sequence[str]]) -> bool:
    """Return whether texts are positions in the list of classes: all are whole numbers, and no class is a number."""
    names = task.label_names or task.class_names or ()
    are_numbers = all(part.isdecimal() for parts in texts for part in parts)
    return are_numbers and all(number_of(name) is None for name in names)
