"""Data sets in memory: rows of a `datasets.Dataset` as a split of a classification task."""

from dataclasses import replace

import numpy as np
from datasets import ClassLabel, Dataset, Image, IterableDataset

from hf_paint.data.labels import read_classes
from hf_paint.data.splits import Split
from hf_paint.data.stored_images import cast_images
from hf_paint.errors import InputError
from hf_paint.tasks.classification import ClassificationTask


TEMPLATE = "a photo of a {}."
"""Prompt for data sets in memory, which have class names but no prompts of their own (Radford et al., 2021)."""
LABEL_COLUMNS = ("label", "labels")


def split_of(rows: Dataset, name: str, *, split: str, num_classes: int | None = None) -> Split:
    """Return a data set in memory as a split of a task with the prompt `a photo of a {}.`.

    Args:
        rows: Rows with one image column, and a label column: the only `ClassLabel`, or `label` or `labels`.
        name: Name of the task.
        split: Name of the split.
        num_classes: Number of classes that the labels count through; by default, the label column names the classes.

    Raises:
        InputError: If there is no such column, or a label is not one of the classes.
    """
    image_column, label_column = _columns(rows, name)
    task = ClassificationTask(
        name=name,
        dataset="memory",
        templates=(TEMPLATE,),
        image_column=image_column,
        label_column=label_column,
        class_names=_numbers(rows, label_column, name, num_classes),
    )
    names, class_ids = read_classes(task, rows)
    rows = cast_images(rows.with_format(None), image_column)
    found = Split(
        task=task,
        name=split,
        rows=rows.select_columns([image_column, label_column]),
        class_ids=class_ids,
        class_names=names,
        fingerprint=rows._fingerprint,
        label_indices=np.zeros(0, dtype=np.int64),
    )
    labels = np.array([found.class_id(label) for label in rows[label_column][:]], dtype=np.int64)
    if not len(labels):
        raise InputError(f"The data set '{name}' has no rows.")
    return replace(found, label_indices=labels)


def _numbers(rows: Dataset, column: str, name: str, num_classes: int | None) -> tuple[str, ...] | None:
    """Return the numbers of the classes as their names, or None if the label column names them."""
    feature = rows.features[column]
    if num_classes is None or not isinstance(feature, ClassLabel):
        return None if num_classes is None else tuple(str(index) for index in range(num_classes))
    if feature.num_classes != num_classes:
        raise InputError(
            f"The data set '{name}' has {feature.num_classes} classes, but its `head` has {num_classes} rows. Pass a "
            "head with one row per class."
        )
    return None


def _columns(rows: Dataset | IterableDataset, name: str) -> tuple[str, str]:
    """Return the image column and the label column."""
    features = rows.features or {}
    images = [column for column, feature in features.items() if isinstance(feature, Image)]
    classes = [column for column, feature in features.items() if isinstance(feature, ClassLabel)]
    labels = classes if len(classes) == 1 else [column for column in LABEL_COLUMNS if column in features]
    if isinstance(rows, IterableDataset) or len(images) != 1 or len(labels) != 1:
        raise InputError(
            f"The data set '{name}' must be a `datasets.Dataset` with one image column and one label column, got a "
            f"{type(rows).__name__} with the columns {', '.join(features) or 'unknown'}. Define a `Task` that names "
            "its columns instead."
        )
    return images[0], labels[0]
