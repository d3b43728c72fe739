"""Labels: what a data set calls its classes is matched with the class names of the task, by name."""

from collections.abc import Sequence
from typing import Any

from datasets import ClassLabel, Dataset, IterableDataset

from hf_paint.errors import InputError
from hf_paint.tasks.task import Task


def read_classes(task: Task, rows: Dataset | IterableDataset) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the class names of a task, and label -> class index for the labels that its rows hold.

    Where words are written in the images, labels and words together are the candidates, unless the task names them.
    Both are empty for a multiple-choice task.

    Raises:
        InputError: If the task names no classes and neither do the rows, or the names do not match.
    """
    if task.choices_column is not None:
        return (), {}
    feature = (rows.features or {}).get(task.label_column)
    if isinstance(feature, ClassLabel):
        class_names, class_ids = task.class_names or tuple(feature.names), match_class_names(task, feature.names)
        return class_names, (_name_ids(task.label_names or class_names) if task.text_column else {}) | class_ids
    if task.class_names is None and task.text_column is not None:
        words = sorted({*rows.unique(task.label_column), *rows.unique(task.text_column)})
        return tuple(words), _name_ids(words)
    if task.class_names is None:
        raise InputError(
            f"Task '{task.name}' needs `class_names`: '{task.label_column}' of '{task.dataset}' has no names."
        )
    if getattr(feature, "dtype", None) in ("string", "large_string"):
        return task.class_names, _name_ids(task.label_names or task.class_names)
    return task.class_names, {index: index for index in range(len(task.class_names))}


def match_class_names(task: Task, label_names: Sequence[str]) -> dict[Any, int]:
    """Match what a data set calls its classes with the class names of the task, by name.

    Names match when they are equal, or else when they are equal but for case, spaces and punctuation and no other name
    is. The order of either side does not matter.

    Returns:
        label index -> class index.

    Raises:
        InputError: If the counts differ or a name has no partner of its own.
    """
    expected = task.label_names or task.class_names or tuple(label_names)
    if len(expected) != len(label_names):
        raise InputError(
            f"Task '{task.name}' lists {len(expected)} classes but '{task.dataset}' has {len(label_names)} of them."
        )
    ids = _name_ids(expected)
    matched = [ids.get(name, ids.get(normalise(name))) for name in label_names]
    without = [
        name for name, index in zip(label_names, matched, strict=True) if index is None or matched.count(index) > 1
    ]
    if without:
        raise InputError(
            f"{len(without)} classes of '{task.dataset}' have no class name of their own in task '{task.name}', first "
            f"'{without[0]}'. Give the data set's own names, in the order of `class_names`, as `label_names`."
        )
    return {label: index for label, index in enumerate(matched) if index is not None}


def _name_ids(names: Sequence[str]) -> dict[str, int]:
    """Return name -> index, for the names as they are and, where that is unambiguous, normalised."""
    normalised = [normalise(name) for name in names]
    unique = {short: i for i, short in enumerate(normalised) if short and normalised.count(short) == 1}
    return unique | {name: i for i, name in enumerate(names)}


def normalise(name: str) -> str:
    """Return a name without case, spaces and punctuation."""
    return "".join(character for character in name.casefold() if character.isalnum())
