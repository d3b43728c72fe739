"""Data that a Python program holds in memory: a `Dataset`, a `DatasetDict`, or a list of (image, label) pairs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image, Value, concatenate_datasets

from hf_paint.data.split_names import read_parts, suggest_splits
from hf_paint.errors import InputError
from hf_paint.files import expand
from hf_paint.tasks.references import Pairs, is_pairs
from hf_paint.tasks.task import Task


ONLY_SPLIT = "train"
"""Name of the split of data without splits."""


def memory_splits(task: Task) -> dict[str, Dataset]:
    """Return split -> rows of a task whose data are in memory; data without splits are the split `train`.

    Raises:
        InputError: If the task was read from a file, which cannot hold data, or they have the wrong type.
    """
    data = task.rows
    if data is None:
        raise InputError(
            f"The data of task '{task.name}' were in the memory of a Python program, so they cannot be read again "
            "from a file. Repeat the Python call that started the run, or save the data with `save_to_disk` and name "
            "that folder instead."
        )
    splits = {str(name): rows for name, rows in data.items()} if isinstance(data, Mapping) else {ONLY_SPLIT: data}
    return {name: _to_dataset(task, rows) for name, rows in splits.items()}


def read_memory(task: Task, source: str) -> tuple[Dataset, dict[str, int]]:
    """Return the rows of a split, or of an expression like `train[:80%]`, and the number of rows in each split.

    Raises:
        InputError: If there is no such split, or it is empty.
    """
    splits = memory_splits(task)
    lengths = {name: len(rows) for name, rows in splits.items()}
    try:
        parts = read_parts(source, lengths)
    except ValueError as error:
        raise InputError(
            f"The data of task '{task.name}' have no split '{source}'; their splits are {', '.join(splits)}. "
            f"To use them, {suggest_splits(splits, drawn=not task.streaming)}."
        ) from error
    rows = [
        splits[name] if stop - start == lengths[name] else splits[name].select(range(start, stop))
        for name, start, stop in parts
    ]
    table = rows[0] if len(rows) == 1 else concatenate_datasets(rows)
    if not len(table):
        raise InputError(f"The data set '{task.name}' has no rows in its split '{source}'.")
    return table, lengths


def _to_dataset(task: Task, rows: object) -> Dataset:
    if isinstance(rows, Dataset):
        return rows.with_format(None)
    if is_pairs(rows):
        return _read_pairs(task, rows)
    raise InputError(
        f"The data of task '{task.name}' must be a `datasets.Dataset`, a `DatasetDict` of them or a list of (image, "
        f"label) pairs, got a {type(rows).__name__}."
    )


def _read_pairs(task: Task, pairs: Pairs) -> Dataset:
    images = [_image(task, image) for image, _ in pairs]
    labels = [label.item() if isinstance(label, np.generic) else label for _, label in pairs]
    kinds = {type(label) for label in labels}
    if kinds not in ({str}, {int}):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(f"The labels of task '{task.name}' must be all texts or all integers, got {names}.")
    features = Features({"image": Image(), "label": Value("string" if kinds == {str} else "int64")})
    return Dataset.from_dict({"image": images, "label": labels}, features=features)


def _image(task: Task, image: object) -> object:
    """Return an image as `datasets` stores it; a path becomes absolute."""
    shape = getattr(image, "shape", None)
    if shape is not None and not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))):
        raise InputError(
            f"Task '{task.name}' has a picture of shape {tuple(shape)}; an array must be (height, width) or (height, "
            "width, 3), with the channels last."
        )
    if not isinstance(image, (str, Path)):
        return image
    if "://" not in str(image) and not expand(image).is_file():
        raise InputError(
            f"Task '{task.name}' lists the picture '{image}', but there is no such file. Correct the path."
        )
    return str(image) if "://" in str(image) else str(expand(image).absolute())
