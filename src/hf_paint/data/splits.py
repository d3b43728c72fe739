"""The splits of a task: which rows are in each of them, and their labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from datasets import Dataset, IterableDataset
from numpy.typing import NDArray

from hf_paint.data.choices import Choices, find_good_rows, name_answers
from hf_paint.data.class_subsets import take_some_classes
from hf_paint.data.column_types import check_column_types
from hf_paint.data.draws import draw_stratified, split_train_validation, warn_of_missing_classes
from hf_paint.data.guesses import open_task, read_rows
from hf_paint.data.labels import ClassIds, read_classes
from hf_paint.data.read_once import ReadOnce, reading_once
from hf_paint.data.row_labels import is_missing, with_labels, with_words, without_unlabelled
from hf_paint.data.samples import Sample, share_texts
from hf_paint.data.sources import Rows, stream_fingerprint, stream_length
from hf_paint.data.stored_images import cast_images, with_file_states
from hf_paint.data.strata import find_strata
from hf_paint.data.unreadable import Unreadable, skip_unreadable
from hf_paint.errors import InputError
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.subsets import AUTO
from hf_paint.tasks.task import Task


Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """One split of a task.

    Attributes:
        task: The task.
        name: `train`, `validation` or `test`.
        rows: Rows with PIL images in the image column; a stream if the task is streamed.
        class_ids: Label in the data set (a number, or a name as it is written or in short form) -> class index.
        class_names: Class names of the task; for multiple choice, the prompts of all candidates.
        fingerprint: Fingerprint of the rows.
        row_ids: shape (num_rows,), numbers that are equal in two splits only if the rows are the same; None for a
            stream.
        label_indices: shape (num_rows,), class index of each row or, for multiple choice, the position of the answer
            among its candidates; None for a stream. For a multi-label task, shape (num_rows, max_classes): the classes
            of each row, padded with -1.
        word_indices: shape (num_rows,), class index of the word in each photo of a typographic task.
        choices: Questions and candidates of a multiple-choice task.
        skipped: Images that cannot be read and are left out; their rows are those of the whole split.
        features: Column of the data set -> its type, also for columns that the task does not read.
        sample: Where the rows come from, if they are a sample of a split.
    """

    task: Task
    name: str
    rows: Dataset | IterableDataset
    class_ids: ClassIds
    class_names: tuple[str, ...]
    fingerprint: str
    row_ids: Indices | None = None
    label_indices: Indices | None = None
    word_indices: Indices | None = None
    choices: Choices | None = None
    skipped: tuple[Unreadable, ...] = ()
    features: Mapping[str, object] = field(default_factory=dict)
    sample: Sample | None = None

    def labels(self) -> Indices:
        """Return `label_indices`.

        Raises:
            InputError: If the task is streamed.
        """
        if self.label_indices is None:
            raise InputError(f"Task '{self.task.name}' is streamed: its labels can only be read with its images.")
        return self.label_indices

    def select(self, indices: Indices) -> "Split":
        """Return the split with these rows only. Its fingerprint stays that of all rows.

        Raises:
            InputError: If the task is streamed.
        """
        return replace(
            self,
            rows=self.rows.select(indices),
            row_ids=None if self.row_ids is None else self.row_ids[indices],
            label_indices=self.labels()[indices],
            word_indices=None if self.word_indices is None else self.word_indices[indices],
            choices=None if self.choices is None else self.choices.select(indices),
        )

    def written(self, labels: Indices) -> Indices | None:
        """Return the class index of the word written on each image, given the class indices `labels` (num_rows,).

        Return None if there are no words, or for an attacked train split, whose words depend on the epoch.
        """
        if self.sample is not None:  # the word on an image depends on its place in the whole split
            written = self.sample.whole.written(self.sample.whole.labels())
            return None if written is None else written[self.sample.indices]
        if self.task.attack is not None and self.name != "train":
            return self.task.attack.written(labels, self.class_names, self.name)
        return self.word_indices

    def targets(self, labels: Indices) -> Indices:
        """Convert labels (num_rows,) to what the head expects; for multiple choice, they are extended to rows."""
        return labels if self.choices is None else self.choices.targets(self.class_names)

    def class_of(self, row: Mapping[str, object]) -> int:
        """Return the class index of a row."""
        return self.class_id(row[self.task.label_columns()["label_column"]])

    def class_id(self, label: object) -> int:
        """Return the class index of a label in the data set.

        Raises:
            InputError: If the label does not match any class of the task.
        """
        index = self.class_ids.find(label)
        if index is None and is_missing(label):
            raise InputError(
                f"An image of the {self.name} split of task '{self.task.name}' has no label. Fill in the labels, or "
                "remove the rows without one."
            )
        if index is None:
            raise InputError(
                f"The {self.name} split of task '{self.task.name}' contains the label {label!r}, which matches none "
                f"of its {len(self.class_names)} classes. Correct `class_names`, or list the data set's class names "
                "as `label_names`."
            )
        return index


_loaded: ReadOnce[Task, Split] = ReadOnce()


@reading_once()
def load_splits(task: Task, names: Sequence[str] = ("train", "validation", "test")) -> dict[str, Split]:
    """Load splits of a task.

    Args:
        task: The task.
        names: Splits to load, from `train`, `validation` and `test`. Splits that the task does not have are skipped.

    Returns:
        Name -> split. The rows of an `auto` validation split are removed from train.

    Raises:
        InputError: If the data set, a split or a column does not exist, a split is empty, or a label does not match
            any class of the task.
    """
    task = open_task(task)
    sources = {name: source_of(task, name) for name in names}
    splits = {name: _read_once(task, name, source) for name, source in sources.items() if source is not None}
    return share_texts(splits)


def _read_once(task: Task, name: str, source: str) -> Split:
    """Load a split, unless this run has done so. Streams are never kept: reading changes them."""
    load = partial(_load_split, task, name, source)
    return load() if task.streaming else _loaded.get((task.name, name), task, load)


def source_of(task: Task, name: str) -> str | None:
    """Return the name of the data set's split from which a split of the task is read."""
    return task.splits.source_of(name)


def _load_split(task: Task, name: str, source: str) -> Split:
    task, loaded = _load_rows(task, source)
    class_names, class_ids = read_classes(task, loaded.table)
    rows = _select_rows(task, loaded, name, source)
    split = with_labels(
        Split(
            task=task,
            name=name,
            rows=rows.table,
            class_ids=class_ids,
            class_names=class_names,
            fingerprint="",
            row_ids=rows.ids,
            features=dict(loaded.table.features or {}),
        )
    )
    if name in ("train", *task.splits.stratified) and task.splits.stratified:
        split = _draw(split)
    rows = replace(rows, table=split.rows.select_columns([task.image_column, *task.label_columns().values()]))
    fingerprint = stream_fingerprint(task, name) if task.streaming else rows.table._fingerprint
    stored = (loaded if task.streaming else rows).table  # the selected rows of a stream have their images decoded
    split = replace(split, rows=rows.table, fingerprint=with_file_states(fingerprint, stored, task.image_column))
    split = skip_unreadable(with_words(without_unlabelled(take_some_classes(split))))
    if not task.streaming and not len(split.rows):
        raise InputError(
            f"The {name} split of task '{task.name}' is empty: no rows of '{source}' in '{task.dataset}' are left. "
            "Check `splits`, `where`, `bad_rows` and the selected classes."
        )
    return split


def _load_rows(task: Task, source: str) -> tuple[Task, Rows]:
    task, rows = read_rows(task, source)
    check_column_types(task, rows.table)
    if not isinstance(task, MultipleChoiceTask):
        return task, rows
    rows = replace(rows, table=name_answers(task, rows.table))
    good = find_good_rows(task, rows.table, source)
    return task, rows if good is None else rows.select(good)


def _select_rows(task: Task, rows: Rows, name: str, source: str) -> Rows:
    """Select the rows of one split, unless it is stratified; the order of the steps affects fingerprints."""
    rows = replace(rows, table=cast_images(rows.table, task.image_column))
    if task.splits.validation == AUTO and name in ("train", "validation"):
        rows = _take_side(task, rows, source, side=0 if name == "train" else 1)
    if task.where:
        rows = _take_matching(rows, task.where)
    return rows


def _take_side(task: Task, rows: Rows, source: str, *, side: int) -> Rows:
    """Select the train rows (side 0) or the validation rows (side 1) from a train split."""
    if not task.streaming:
        groups = rows.table[task.group_column][:] if task.group_column else None
        return rows.select(split_train_validation(len(rows.table), groups)[side])
    if task.group_column:
        raise InputError(
            f"Task '{task.name}' is streamed, so an `auto` validation split cannot keep groups together. Set "
            "`validation` to a split of the data set, or to null."
        )
    wanted = set(split_train_validation(stream_length(task, source))[side].tolist())
    columns = list(task.label_columns().values())
    return Rows(rows.table.filter(lambda _, index: index in wanted, with_indices=True, input_columns=columns))


def _draw(split: Split) -> Split:
    """Select the rows of a split of which some are `stratified`; links to the same file are a group."""
    task = split.task
    groups = split.rows[task.group_column][:] if task.group_column else split.row_ids
    drawn = draw_stratified(find_strata(split), task.splits.stratified, groups)
    warn_of_missing_classes(split, drawn)
    return split.select(drawn[split.name])


def _take_matching(rows: Rows, where: Mapping[str, object]) -> Rows:
    """Select the rows that have these values in their columns."""
    matches = [np.array(rows.table[column][:], dtype=object) == value for column, value in where.items()]
    return rows.select(np.flatnonzero(np.all(matches, axis=0)))
