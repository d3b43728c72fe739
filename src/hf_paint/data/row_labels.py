"""The labels of a split: what the rows of each kind of task are labelled with, as class indices."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hf_paint.data.choices import read_choices
from hf_paint.data.label_lists import NO_CLASS, label_lists, labelled, pad
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.multi_label import MultiLabelTask
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.typographic_photos import TypographicTask


if TYPE_CHECKING:
    from hf_paint.data.splits import Split


def with_labels(split: "Split") -> "Split":
    """Return a split with the label, the labels or the answer of each row; a stream is returned unchanged.

    The labels of an unlabelled split are -1.
    """
    task = split.task
    if task.streaming:
        return split
    if isinstance(task, MultipleChoiceTask):
        choices = read_choices(task, split.rows)
        return replace(split, choices=choices, label_indices=choices.labels)
    if isinstance(task, MultiLabelTask):
        lists = label_lists(task, split.rows)
        return replace(split, label_indices=pad([[split.class_id(label) for label in row] for row in lists]))
    if split.name in task.unlabelled:
        return replace(split, label_indices=np.full(len(split.rows), NO_CLASS))
    labels = split.rows[task.label_columns()["label_column"]][:]
    return replace(split, label_indices=np.array([split.class_id(label) for label in labels], dtype=np.int64))


def without_unlabelled(split: "Split") -> "Split":
    """Remove the images without a class from the train split of a multi-label task: no answer to them would be right.

    Raises:
        InputError: If no image of the split has a class.
    """
    if split.label_indices is None or split.label_indices.ndim == 1:
        return split
    has_class = labelled(split.label_indices)
    if not has_class.any():
        raise InputError(
            f"No image of the {split.name} split of task '{split.task.name}' has a class. Correct `label_column`."
        )
    if split.name != "train" or has_class.all():
        return split
    kept = split.select(np.flatnonzero(has_class))
    return replace(kept, fingerprint=fingerprint_values(split.fingerprint, "labelled"))


def with_words(split: "Split") -> "Split":
    """Return a split of a typographic task with the word in each photo; any other is returned unchanged."""
    if not isinstance(split.task, TypographicTask):
        return split
    words = split.rows[split.task.text_column][:]
    names = getattr(split.rows.features[split.task.text_column], "names", None)
    indices = [split.class_id(names[word] if names else word) for word in words]
    return replace(split, word_indices=np.array(indices, dtype=np.int64))
