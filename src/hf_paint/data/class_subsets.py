"""Restrict a split to one half of its classes, or to listed classes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hf_paint.data.labels import ClassIds
from hf_paint.errors import InputError, did_you_mean
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.classification import LabelledTask


if TYPE_CHECKING:
    from hf_paint.data.splits import Split


def take_some_classes(split: "Split") -> "Split":
    """Keep only the classes selected by `class_split` and `only_classes`."""
    task = split.task
    if not isinstance(task, LabelledTask):
        return split
    if task.class_split is not None:
        split = _take_classes(split, task.class_split.classes(len(split.class_names)))
    if task.only_classes is not None:
        split = _take_only(split, task.only_classes, own_head=task.own_head)
    return split


def _take_only(split: "Split", names: Sequence[str], *, own_head: bool) -> "Split":
    """Keep only the rows of the named classes; with `own_head`, remove all other classes from the head as well."""
    for name in names:
        if name not in split.class_names:
            raise InputError(
                f"`only_classes` of task '{split.task.name}' contains '{name}', which is not one of its "
                f"{len(split.class_names)} classes.{did_you_mean(name, split.class_names)}"
            )
    classes = [index for index, name in enumerate(split.class_names) if name in names]
    return _take_classes(split, classes) if own_head else _take_rows(split, classes)


def _take_rows(split: "Split", classes: Sequence[int]) -> "Split":
    """Keep only the rows of these classes."""
    fingerprint = fingerprint_values(split.fingerprint, list(classes))
    if split.label_indices is None:
        columns = list(split.task.label_columns().values())
        rows = split.rows.filter(lambda label: split.class_id(label) in classes, input_columns=columns)
        return replace(split, rows=rows, fingerprint=fingerprint)
    kept = split.select(np.flatnonzero(np.isin(split.label_indices, classes)))
    return replace(kept, fingerprint=fingerprint)


def _take_classes(split: "Split", classes: Sequence[int]) -> "Split":
    """Keep only the rows and names of these classes, and renumber the classes."""
    new = {old: index for index, old in enumerate(classes)}
    part = _take_rows(split, classes)
    labels = part.label_indices
    return replace(
        part,
        class_ids=ClassIds({label: new[old] for label, old in split.class_ids.items() if old in new}),
        class_names=tuple(split.class_names[old] for old in classes),
        label_indices=None if labels is None else np.searchsorted(classes, labels).astype(np.int64),
    )
