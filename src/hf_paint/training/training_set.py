"""Training on several tasks at once (joint patching: PAINT, Section 5): their heads side by side, and their images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.data.images import CachedImages
from hf_paint.data.joint_images import JointImages
from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.data.splits import Split, load_splits
from hf_paint.data.training_images import SHUFFLE_BUFFER, StreamedTrainImages, TrainImages
from hf_paint.data.transforms import PixelTransform
from hf_paint.errors import InputError
from hf_paint.models.heads import JointHead, ZeroShotHead
from hf_paint.models.zero_shot import build_task_head
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments


def make_training_set(
    tasks: Sequence[Task], model: PreTrainedModel, processor: ProcessorMixin, args: PaintTrainingArguments
) -> tuple[Dataset[Any], ZeroShotHead]:
    """Return the training images of a task and its head, or those of several tasks together.

    Raises:
        InputError: If a task cannot be trained on, alone or beside the others.
    """
    check_trainable(tasks, args)
    if len(tasks) == 1:
        return _train_split(tasks[0], model, processor, args)
    images, heads = zip(*(_train_split(task, model, processor, args) for task in tasks), strict=True)
    joint = JointImages(
        images,
        [len(head.weight) for head in heads],
        sampling=args.task_sampling,
        temperature=args.sampling_temperature,
        seed=args.seed,
    )
    return joint, JointHead(heads)


def check_trainable(tasks: Sequence[Task], args: PaintTrainingArguments) -> None:
    """Refuse tasks that cannot be trained on together, or not with these arguments.

    Raises:
        InputError: If that is so.
    """
    names = [task.name for task in tasks]
    for task in tasks:
        if task.streaming:
            check_stream(task, args)
        if names.count(task.name) > 1:
            raise InputError(f"Task '{task.name}' is listed twice. Each task is trained on once.")
        keys = [key for key in ("streaming", "class_groups", "choices_column") if getattr(task, key, None)]
        if len(tasks) > 1 and keys:
            what = "streams" if task.streaming else f"has `{keys[0]}`"
            raise InputError(f"Task '{task.name}' {what}, so it can only be trained on alone, not beside other tasks.")
        if args.train_head and isinstance(task, MultipleChoiceTask):
            raise InputError(f"Task '{task.name}' has `choices_column` and no classes: leave out `train_head`.")


def _train_split(
    task: Task, model: PreTrainedModel, processor: ProcessorMixin, args: PaintTrainingArguments
) -> tuple[Dataset[Any], ZeroShotHead]:
    cache_dir = default_cache_dir()
    split = load_splits(task, ("train",)).get("train")
    if split is None:
        raise InputError(f"Task '{task.name}' has no train split, so it cannot be patched.")
    head = build_task_head(model, processor.tokenizer, task, split.class_names, cache_dir=cache_dir)
    return make_training_images(split, PixelTransform(processor), args, cache_dir=cache_dir), head


def make_training_images(
    split: Split, transform: PixelTransform, args: PaintTrainingArguments, *, cache_dir: str | Path
) -> Dataset[Any]:
    """Return the training images that the arguments ask for.

    Raises:
        InputError: If a stream is to be trained on for epochs, or by worker processes.
    """
    if not split.task.streaming:
        if args.augmentation == "none":
            return CachedImages(split, transform, cache_dir=cache_dir)
        return TrainImages(split, transform, args.augmentation, seed=args.seed)
    check_stream(split.task, args)
    buffer_size = 1 if args.train_sampling_strategy == "sequential" else SHUFFLE_BUFFER
    return StreamedTrainImages(split, transform, args.augmentation, seed=args.seed, buffer_size=buffer_size)


def check_stream(task: Task, args: PaintTrainingArguments) -> None:
    """Refuse to train on a stream for epochs, or by worker processes.

    Raises:
        InputError: If the arguments ask for that.
    """
    if args.dataloader_num_workers > 0 or (args.max_steps or 0) <= 0:
        raise InputError(f"Task '{task.name}' streams: it needs `max_steps` and `dataloader_num_workers: 0`.")
