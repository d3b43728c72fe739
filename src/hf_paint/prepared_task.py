"""A task that is ready to be evaluated: its head is built, its images are decoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from transformers import CLIPModel, CLIPProcessor

from hf_paint.data import load_splits
from hf_paint.errors import InputError
from hf_paint.heads import ZeroShotHead, build_task_head, default_cache_dir
from hf_paint.images import CachedImages
from hf_paint.pixels import PixelTransform
from hf_paint.results import Role
from hf_paint.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedTask:
    """A task that is ready to be evaluated: its head is built and its images are decoded.

    Attributes:
        task: The task.
        role: What the task is for.
        class_names: The class names, in the order of the logits.
        head: The zero-shot head.
        transform: Normalises pixels.
        images: The images of each split, `validation` and `test` where the task has them.
    """

    task: Task
    role: Role
    class_names: tuple[str, ...]
    head: ZeroShotHead
    transform: PixelTransform
    images: Mapping[str, CachedImages]


def prepare_task(
    task: Task,
    model: CLIPModel,
    processor: CLIPProcessor,
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
        role: What the task is for.
        splits: The splits that are wanted; those that the task does not have are left out.
        cache_dir: Where decoded pixels and heads are kept; `hf_paint.heads.default_cache_dir()` by default.

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
    class_names = next(iter(loaded.values())).class_names
    with PartialState().local_main_process_first():  # the others read what the first one cached
        head = build_task_head(model, processor.tokenizer, task, class_names, cache_dir=cache_dir)
    images = {name: CachedImages(split, transform, cache_dir=cache_dir) for name, split in loaded.items()}
    return PreparedTask(task=task, role=role, class_names=class_names, head=head, transform=transform, images=images)
