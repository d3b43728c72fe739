"""Data sets in memory: all rows of a `datasets.Dataset`, or a list of pairs, as one split of a classification task."""

from collections.abc import Mapping
from dataclasses import replace

from datasets import ClassLabel, Dataset

from hf_paint.data.columns import name_columns
from hf_paint.data.memory_rows import ONLY_SPLIT
from hf_paint.data.splits import Split, load_splits
from hf_paint.errors import InputError
from hf_paint.tasks.classification import LabelledTask
from hf_paint.tasks.references import InMemory
from hf_paint.tasks.registry import get_task
from hf_paint.tasks.subsets import Splits
from hf_paint.tasks.task import Task


def whole_task(data: InMemory, name: str | None, *, split: str) -> Task:
    """Return a task with data in memory, of which all rows are one split; a `DatasetDict` has splits of its own.

    Args:
        data: The data.
        name: Name of the task, if the data do not name it.
        split: `train`, `validation` or `test`.
    """
    task = get_task(data)
    if name is not None:
        task = replace(task, name=name)
    if isinstance(data, Mapping):
        return task
    sources: dict[str, str | None] = {"train": None, "validation": None, "test": None, split: ONLY_SPLIT}
    return replace(task, splits=Splits(**sources))


def split_of(rows: Dataset, name: str, *, split: str, num_classes: int | None = None) -> Split:
    """Return a data set in memory as a split of a task with a general prompt (see `hf_paint.tasks.templates`).

    Args:
        rows: Rows with images and labels, in columns that `name_columns` finds.
        name: Name of the task.
        split: Name of the split.
        num_classes: Number of classes that the labels count through; by default, the label column names the classes.

    Raises:
        InputError: If there are no such columns, or a label is not one of the classes.
    """
    task = name_columns(whole_task(rows, name, split=split), rows)
    if num_classes is not None and isinstance(task, LabelledTask):
        feature = rows.features[task.label_column]
        if not isinstance(feature, ClassLabel):
            task = replace(task, class_names=tuple(str(index) for index in range(num_classes)))
        elif feature.num_classes != num_classes:
            raise InputError(
                f"The data set '{name}' has {feature.num_classes} classes, but its `head` has {num_classes} rows. "
                "Pass a head with one row per class."
            )
    return load_splits(task, (split,))[split]
