"""The labels of a split: what the rows of each kind of task are labelled with, as class indices."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hf_paint.data.choices import read_choices
from hf_paint.data.label_lists import NO_CLASS, label_lists, labelled, pad
from hf_paint.data.stored_images import stored_name, without_decoding
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

    Raises:
        InputError: If a row has no label, or one that is no class.
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
    _refuse_missing(split, labels)
    return replace(split, label_indices=np.array([split.class_id(label) for label in labels], dtype=np.int64))


def is_missing(label: object) -> bool:
    """Return whether a label that is no class stands for none: an empty field, or -1 as `datasets` writes it.

    Example:
        >>> [is_missing(label) for label in (None, float("nan"), "", -1, 0, "no")]
        [True, True, True, True, False, False]
    """
    return label is None or label != label or label in ("", -1)


def _refuse_missing(split: "Split", labels: Sequence[object]) -> None:
    rows = [row for row, label in enumerate(labels) if is_missing(label) and split.class_ids.find(label) is None]
    if not rows:
        return
    task, column = split.task, split.task.image_column
    name = stored_name(without_decoding(split.rows.select_columns([column]), column)[rows[0]][column])
    first = f"row {rows[0]}{f' ({name!r})' if name else ''}"
    raise InputError(
        f"{len(rows)} of the {len(labels)} {split.name} rows of task '{task.name}' have no label in "
        f"'{task.label_columns()['label_column']}', the first is {first}. Fill them in, or remove these rows."
    )


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
