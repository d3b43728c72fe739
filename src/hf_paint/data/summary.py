"""A summary of a task's data, to look at before a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from datasets import ClassLabel

from hf_paint.data.column_types import describe_type
from hf_paint.data.folder_splits import show
from hf_paint.data.folders import bare_folders
from hf_paint.data.image_summary import ImageSummary, summarize_images
from hf_paint.data.label_lists import NO_CLASS, distinct_labels, label_type
from hf_paint.data.overlaps import NUM_SHOWN, count_shared_rows
from hf_paint.data.splits import Split, load_splits, source_of
from hf_paint.documents.reading import Json
from hf_paint.files import plain
from hf_paint.tasks.classification import LabelledTask
from hf_paint.tasks.registry import TaskLike, get_task
from hf_paint.tasks.subsets import AUTO, DRAWN, STRATIFIED
from hf_paint.tasks.task import Task


FEW_IMAGES = 100
"""Number of validation images below which one image counts for more than a point of accuracy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSummary:
    """A split of a task.

    Attributes:
        origin: Where its rows come from: a split of the data set, or drawn from one.
        num_images: Number of images; None for a stream.
        per_class: Number of images of each class, in the order of the class names; empty if there are no classes. An
            image with several classes counts for each of them.
    """

    origin: str
    num_images: int | None
    per_class: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSummary:
    """What a task reads.

    Attributes:
        task: The task.
        columns: Column of the data set -> what it holds.
        class_names: Class names, in the order of the logits; empty for multiple choice.
        data_names: Class name -> its name in the data, for classes whose two names differ.
        prompts: Prompts, filled in for the first class or the first candidate.
        splits: `train`, `validation` or `test` -> the split; those that the task has.
        shared_rows: Two splits -> number of rows that are in both.
        images: What the images are like; None if they were not read.
        bare_folders: Folders among those of the classes that contain no pictures.
    """

    task: Task
    columns: Mapping[str, str]
    class_names: Sequence[str]
    data_names: Mapping[str, str]
    prompts: Sequence[str]
    splits: Mapping[str, SplitSummary]
    shared_rows: Mapping[tuple[str, str], int]
    images: ImageSummary | None = None
    bare_folders: Sequence[str] = ()

    def to_dict(self) -> Json:
        """Return the summary as plain values, for JSON."""
        shared = [{"splits": list(pair), "rows": number} for pair, number in self.shared_rows.items()]
        values = {key: plain(getattr(self, key)) for key in ("columns", "class_names", "data_names", "prompts")}
        values |= {key: plain(getattr(self, key)) for key in ("splits", "images", "warnings")}
        missing = {name: self.missing(name) for name in self.splits}
        return {"task": self.task.to_dict()} | values | {"missing": missing, "shared_rows": shared}

    def missing(self, split: str) -> list[str]:
        """Return the classes that have no images in a split."""
        counts = self.splits[split].per_class
        return [name for name, count in zip(self.class_names, counts, strict=False) if not count]

    @property
    def warnings(self) -> list[str]:
        """What may go wrong in a run on this data, one sentence each."""
        return [*self._warn_of_counts(), *self._warn_of_images()]

    def _warn_of_counts(self) -> Iterator[str]:
        if folders := self.bare_folders:
            yield f"Folders without pictures, which are no classes: {len(folders)} ({show(folders)})."
        for (first, second), number in self.shared_rows.items():
            yield f"Rows in both {first} and {second}: {number}. A run refuses them."
        for name, split in self.splits.items():
            if missing := self.missing(name):
                number = len(self.class_names)
                yield f"Classes without {name} images: {len(missing)} of {number} ({show(missing)})."
            if name == "validation" and split.num_images is not None and split.num_images < FEW_IMAGES:
                points = 100 / split.num_images
                yield f"Validation images: only {split.num_images}, each of which counts {points:.1f} points."

    def _warn_of_images(self) -> Iterator[str]:
        images = self.images
        if images is None:
            return
        if images.unreadable:
            what = "skipped" if self.task.bad_rows == "skip" else "refused by a run; `bad_rows: skip` leaves them out"
            yield f"Images that cannot be read: {len(images.unreadable)}, {what}."
        for pairs, what in ((images.equal, "equal to"), (images.similar, "nearly the same as")):
            if number := sum(pair.is_between_splits for pair in pairs):
                yield f"Images {what} one of another split: {number}. Their accuracy says little about new images."
        if pairs := [pair for pair in images.equal if pair.is_between_classes]:
            pictures = [
                f"{pair.first} ({pair.first.class_name}) and {pair.second} ({pair.second.class_name})"
                for pair in pairs[:NUM_SHOWN]
            ]
            more = f"; and {len(pairs) - NUM_SHOWN} more" if len(pairs) > NUM_SHOWN else ""
            yield f"Images in two classes: {len(pairs)}. Correct one of the labels: {'; '.join(pictures)}{more}."


def summarize(task: TaskLike, *, images: bool = True) -> TaskSummary:
    """Open the data of a task and return what it was read as.

    Args:
        task: A task, or anything that names one (see `get_task`).
        images: Whether to read the images too, which takes a few seconds for 10 000 small ones the first time.

    Raises:
        InputError: If the data cannot be read as the task says.

    Example:
        >>> summary = summarize(task)
        >>> summary.splits["test"].num_images, summary.class_names, len(summary.images.unreadable)
        (40, ('red', 'green', 'blue', 'grey'), 0)
    """
    return summarize_splits(load_splits(get_task(task)), images=images)


def summarize_splits(splits: Mapping[str, Split], *, images: bool = True) -> TaskSummary:
    """Return what the splits of a task were read as (see `summarize`)."""
    first = next(iter(splits.values()))
    task = first.task  # with what was found in the data
    return TaskSummary(
        task=task,
        columns={column: describe_type(feature) for column, feature in first.features.items()},
        class_names=first.class_names if isinstance(task, LabelledTask) else (),
        data_names=_data_names(splits),
        prompts=_fill_prompts(task, first),
        splits={name: _summarize_split(split) for name, split in splits.items()},
        shared_rows=count_shared_rows(splits),
        images=summarize_images(splits) if images and not task.streaming else None,
        bare_folders=bare_folders(task),
    )


def complete_task(summary: TaskSummary) -> Task:
    """Return the task with the class names that were found in its data, so that its file shows them.

    Example:
        >>> complete_task(summarize(task, images=False)).class_names
        ('red', 'green', 'blue', 'grey')
    """
    task = summary.task
    if not isinstance(task, LabelledTask) or task.class_names is not None or task.class_split or task.only_classes:
        return task
    return replace(task, class_names=tuple(summary.class_names))


def _data_names(splits: Mapping[str, Split]) -> dict[str, str]:
    """Return class name -> its name in the data, where the two differ."""
    names: dict[str, str] = {}
    for split in splits.values():
        if not isinstance(split.task, LabelledTask) or split.task.streaming:
            continue
        feature = label_type(split.task, split.rows)
        if isinstance(feature, ClassLabel):
            labels = dict[object, str](enumerate(feature.names))
        else:
            labels = {label: str(label) for label in distinct_labels(split.task, split.rows)}
        for label, name in labels.items():
            index = split.class_ids.find(label)
            if index is not None and name != split.class_names[index]:
                names[split.class_names[index]] = name
    return names


def _fill_prompts(task: Task, split: Split) -> list[str]:
    if split.choices is not None:
        return list(split.choices.texts[0])
    name = next(iter((task.class_groups or {}).get(split.class_names[0], split.class_names)))
    return [template.replace("{}", name) for template in task.templates]


def _summarize_split(split: Split) -> SplitSummary:
    origin = _origin(split.task, split.name)
    if split.label_indices is None:
        return SplitSummary(origin=origin, num_images=None)
    is_labelled = isinstance(split.task, LabelledTask) and split.name not in split.task.unlabelled
    own = split.label_indices[split.label_indices != NO_CLASS]  # of a multi-label task, each class of each image
    counts = np.bincount(own, minlength=len(split.class_names)).tolist() if is_labelled else []
    return SplitSummary(origin=origin, num_images=len(split.rows), per_class=counts)


def _origin(task: Task, name: str) -> str:
    """Say from where the rows of a split come."""
    source, value = source_of(task, name), getattr(task.splits, name)
    if value == AUTO:
        return f"a tenth of '{source}', at most 5000 images, drawn with seed 0"
    if value == STRATIFIED:
        return f"drawn from '{source}' with seed 0, the same share of each class"
    drawn = task.splits.validation in DRAWN or task.splits.test in DRAWN
    return f"the rest of '{source}'" if name == "train" and drawn else f"'{source}'"
