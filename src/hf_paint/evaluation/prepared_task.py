"""A task that is ready to be evaluated: its head is built, its images are decoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.data.images import CachedImages
from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.data.splits import load_splits
from hf_paint.data.transforms import PixelTransform
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.models.heads import GroupedHead, ZeroShotHead, member_rows
from hf_paint.models.processes import is_first_on_node
from hf_paint.models.zero_shot import build_task_head
from hf_paint.results.records import Role
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedTask:
    """A task that is ready to be evaluated: its head is built and its images are decoded.

    Attributes:
        task: The task.
        role: The role of the task.
        class_names: The class names, in the order of the logits.
        head: The zero-shot head.
        transform: Normalises pixels.
        images: The images of each split, `validation` and `test` if the task has them.
        rows: shape (num_classes, max_rows), the rows of its classes in a head that is trained with the image tower;
            None for tasks that keep their zero-shot head.
    """

    task: Task
    role: Role
    class_names: tuple[str, ...]
    head: ZeroShotHead
    transform: PixelTransform
    images: Mapping[str, CachedImages]
    rows: Tensor | None = None

    def with_rows_of(self, class_names: Sequence[str]) -> "PreparedTask":
        """Return the task for evaluation with a trained head of these classes, matched by name.

        A name that several classes share (ImageNet has two such names) is matched in the order of both lists; in a
        group it stands for all of them. A task without classes, or with a class that the head lacks, is returned
        unchanged and keeps its zero-shot head.
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
        """Return the head for evaluating an image tower: the tower's own head if it has the classes of the task."""
        if self.rows is None:
            return self.head
        trained: Any = tower.head
        return GroupedHead(trained.weight.detach(), torch.ones(()), self.rows)

    @property
    def head_fingerprint(self) -> str:
        """The fingerprint of the head, or of its rows if the head is part of the weights."""
        return self.head.fingerprint if self.rows is None else fingerprint_values("rows", self.rows.tolist())


def _rows_by_name(class_names: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for index, name in enumerate(class_names):
        rows.setdefault(name, []).append(index)
    return rows


def prepare_task(
    task: Task,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    role: Role = "supported",
    splits: Sequence[str] = ("validation", "test"),
    cache_dir: str | Path | None = None,
) -> PreparedTask:
    """Load the splits of a task, decode their images once, and build its head.

    Args:
        task: The task.
        model: The model whose text tower builds the head.
        processor: The processor of the model.
        role: The role of the task.
        splits: The splits to load; splits that the task lacks are skipped.
        cache_dir: The cache of decoded pixels and heads; `hf_paint.data.pixel_cache.default_cache_dir()` by default.

    Raises:
        InputError: If the data set, a split, a column, a label or an image cannot be used.

    Example:
        >>> prepared = prepare_task(task, model, processor, splits=("test",))
        >>> len(prepared.images["test"])
        40
    """
    cache_dir = default_cache_dir() if cache_dir is None else cache_dir
    transform = PixelTransform(processor)
    loaded = load_splits(task, splits)
    if not loaded:
        raise InputError(f"Task '{task.name}' has none of the splits {', '.join(splits)}.")
    class_names, *others = dict.fromkeys(split.class_names for split in loaded.values())
    if others:
        raise InputError(
            f"The splits {', '.join(loaded)} of task '{task.name}' do not have the same classes in the same order: "
            "list them all as `class_names`."
        )
    head = build_task_head(model, processor.tokenizer, task, class_names, cache_dir=cache_dir)
    verify = is_first_on_node()
    images = {
        name: CachedImages(split, transform, cache_dir=cache_dir, verify=verify) for name, split in loaded.items()
    }
    return PreparedTask(task=task, role=role, class_names=class_names, head=head, transform=transform, images=images)
