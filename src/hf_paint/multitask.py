"""Training on several tasks at once (joint patching: PAINT, Section 5): their heads side by side, and their images."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.data.joint_images import JointImages
from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.data.splits import load_splits
from hf_paint.data.transforms import PixelTransform
from hf_paint.errors import InputError
from hf_paint.models.heads import JointHead, ZeroShotHead
from hf_paint.models.zero_shot import build_task_head
from hf_paint.tasks.task import Task
from hf_paint.training_args import PaintTrainingArguments
from hf_paint.training_images import check_stream, make_training_images


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
        keys = [key for key in ("streaming", "class_groups", "choices_column") if getattr(task, key)]
        if len(tasks) > 1 and keys:
            what = "streams" if task.streaming else f"has `{keys[0]}`"
            raise InputError(f"Task '{task.name}' {what}, so it can only be trained on alone, not beside other tasks.")
        if args.train_head and task.choices_column is not None:
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
