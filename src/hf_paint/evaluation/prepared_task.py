"""Prepare tasks for evaluation: build their heads and decode their images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.data.images import CachedImages
from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.data.samples import sample_splits
from hf_paint.data.splits import Split, load_splits
from hf_paint.data.transforms import PixelTransform
from hf_paint.data.unreadable import make_all
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.models.given import ModelLike, load_given
from hf_paint.models.heads import GroupedHead, ZeroShotHead, member_rows
from hf_paint.models.task_file import TaskClasses
from hf_paint.models.zero_shot import build_task_head
from hf_paint.results.records import Role
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.registry import TaskLike, get_task
from hf_paint.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedTask:
    """Task that is ready to be evaluated, with its head built and its images decoded.

    Attributes:
        task: The original task.
        role: Role of the task.
        class_names: Class names, in the order of the logits.
        head: Zero-shot head.
        transform: Transform that normalises pixels.
        images: Split -> decoded images. The splits are those of `validation` and `test` that the task has.
        rows: For each class, its rows in a head that is trained with the image tower, shape (num_classes, max_rows).
            None if the task uses its zero-shot head.
    """

    task: Task
    role: Role
    class_names: tuple[str, ...]
    head: ZeroShotHead
    transform: PixelTransform
    images: Mapping[str, CachedImages]
    rows: Tensor | None = None

    def with_rows_of(self, class_names: Sequence[str]) -> "PreparedTask":
        """Return a copy of the task that is evaluated with a trained head for these classes.

        Classes are matched by name. If several classes have the same name (ImageNet has two such names), they are
        matched in order; in a group, the name stands for all of them. A task without classes, or with a class that the
        head does not have, is returned unchanged and uses its zero-shot head.
        """
        if isinstance(self.task, MultipleChoiceTask):
            return self
        groups = self.task.class_groups
        rows = _rows_by_name(class_names)
        if groups is not None:
            members = [[row for name in groups[own] for row in rows.get(name, ())] for own in self.class_names]
            is_complete = all(name in rows for own in self.class_names for name in groups[own])
        else:
            queues = {name: iter(indices) for name, indices in rows.items()}
            members = [list(islice(queues.get(name, iter(())), 1)) for name in self.class_names]
            is_complete = all(members)
        return replace(self, rows=member_rows(members, range(len(class_names)))) if is_complete else self

    def head_of(self, tower: nn.Module) -> ZeroShotHead:
        """Return the head to evaluate an image tower with: its own head if `rows` is set, else the zero-shot head."""
        if self.rows is None:
            return self.head
        trained: Any = tower.head
        return GroupedHead(trained.weight.detach(), torch.ones(()), self.rows)

    @property
    def reported_split(self) -> str:
        """Split that the task is reported on: `test`, or another one if it has no test images."""
        return "test" if "test" in self.images else next(iter(self.images))

    @property
    def labelled_split(self) -> str:
        """The first split whose images have labels, on which accuracy can be measured."""
        return next(name for name, images in self.images.items() if len(images.counted))

    @property
    def classes(self) -> TaskClasses:
        """Classes and prompts of the task, for `tasks.json`."""
        rows = None if self.rows is None else tuple(tuple(row) for row in self.rows.tolist())
        return TaskClasses.of(self.task, self.class_names, role=self.role, head_rows=rows)

    @property
    def head_fingerprint(self) -> str:
        """Fingerprint of the zero-shot head, or of the rows if the head is part of the weights."""
        return self.head.fingerprint if self.rows is None else fingerprint_values("rows", self.rows.tolist())


def num_images(tasks: Iterable[PreparedTask], split: str | None = None) -> int:
    """Return the number of images in one split of these tasks or, by default, in all of them."""
    return sum(len(images) for task in tasks for name, images in task.images.items() if split in (None, name))


def _rows_by_name(class_names: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for index, name in enumerate(class_names):
        rows.setdefault(name, []).append(index)
    return rows


def prepare_task(
    task: TaskLike,
    model: ModelLike,
    processor: ProcessorMixin | None = None,
    *,
    role: Role = "supported",
    splits: Sequence[str] = ("validation", "test"),
    cache_dir: str | Path | None = None,
    max_images: int | None = None,
    head: ZeroShotHead | None = None,
) -> PreparedTask:
    """Load the splits of a task, decode the images once, and build the head.

    Args:
        task: Task to prepare, or what `get_task` makes one of.
        model: Model whose text tower is used to build the head; a Hub repository id or a folder is loaded.
        processor: Processor for the model; by default, its own (see `load_given`).
        role: Role of the task.
        splits: Splits to load. Splits that the task does not have are skipped.
        cache_dir: Cache folder for decoded pixels and heads. Defaults to
            `hf_paint.data.pixel_cache.default_cache_dir()`.
        max_images: Maximum number of images per split, drawn by class (see `hf_paint.data.samples`). Defaults to all.
        head: Head of the task, from `build_head`, if it was built before.

    Returns:
        The task with its decoded images and its head.

    Raises:
        InputError: If the model, the data set, a split, a column, a label or an image cannot be used.

    Example:
        >>> prepared = prepare_task(task, model, processor, splits=("test",))
        >>> len(prepared.images["test"])
        40
    """
    loaded = _load(get_task(task), splits)
    model, processor = load_given(model, processor)
    return prepare_splits(loaded, model, processor, role=role, cache_dir=cache_dir, max_images=max_images, head=head)


def build_head(
    task: Task, model: PreTrainedModel, processor: ProcessorMixin, *, splits: Sequence[str] = ("validation", "test")
) -> ZeroShotHead:
    """Load the splits of a task and build its head, without decoding images (see `prepare_task`)."""
    return _build_head(_load(task, splits), model, processor, default_cache_dir())


def _load(task: Task, splits: Sequence[str]) -> Mapping[str, Split]:
    loaded = load_splits(task, splits)
    if not loaded:
        raise InputError(f"Task '{task.name}' has none of the splits {', '.join(splits)}.")
    return loaded


def prepare_splits(
    loaded: Mapping[str, Split],
    model: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    role: Role = "supported",
    cache_dir: str | Path | None = None,
    max_images: int | None = None,
    head: ZeroShotHead | None = None,
) -> PreparedTask:
    """Decode the images of one task's splits and, unless it is given, build its head (see `prepare_task`)."""
    loaded = sample_splits(loaded, max_images)
    cache_dir = default_cache_dir() if cache_dir is None else cache_dir
    transform, task = PixelTransform(processor), next(iter(loaded.values())).task
    class_names = _class_names(loaded)
    head = head or _build_head(loaded, model, processor, cache_dir)
    images = make_all(partial(CachedImages, split, transform, cache_dir=cache_dir) for split in loaded.values())
    return PreparedTask(
        task=task,
        role=role,
        class_names=class_names,
        head=head,
        transform=transform,
        images=dict(zip(loaded, images, strict=True)),
    )


def _build_head(
    loaded: Mapping[str, Split], model: PreTrainedModel, processor: ProcessorMixin, cache_dir: str | Path
) -> ZeroShotHead:
    task = next(iter(loaded.values())).task
    return build_task_head(model, processor.tokenizer, task, _class_names(loaded), cache_dir=cache_dir)


def _class_names(loaded: Mapping[str, Split]) -> tuple[str, ...]:
    """Return the class names of a task, which all its splits must share."""
    class_names, *others = dict.fromkeys(split.class_names for split in loaded.values())
    if others:
        raise InputError(
            f"The splits {', '.join(loaded)} of task '{next(iter(loaded.values())).task.name}' do not have the same "
            "classes in the same order. Set `class_names` to the full list of classes."
        )
    return class_names
