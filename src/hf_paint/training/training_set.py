"""The training set: images of one or several tasks (joint patching: PAINT, Section 5) with their head."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
from torch.utils.data import Dataset
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.data.images import CachedImages
from hf_paint.data.in_memory import split_of
from hf_paint.data.joint_images import JointImages
from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.data.splits import Split, load_splits
from hf_paint.data.training_images import SHUFFLE_BUFFER, StreamedTrainImages
from hf_paint.data.transforms import PixelTransform
from hf_paint.errors import InputError
from hf_paint.models.classifier import ClassificationHead
from hf_paint.models.heads import JointHead, ZeroShotHead
from hf_paint.models.zero_shot import build_task_head
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.registry import TaskLike, get_tasks
from hf_paint.tasks.task import Task
from hf_paint.training.augmenting import make_train_images
from hf_paint.training.training_args import PaintTrainingArguments


Images = Dataset[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """Training images with the zero-shot head for their labels.

    Attributes:
        images: Examples with `pixel_values` (3, height, width) of type uint8 and `labels`.
        head: Zero-shot head whose rows the labels index.
        tasks: Tasks that the images belong to; empty if the user passed a data set.
        class_names: Class names of a single task, in label order.
        replay_tasks: Tasks whose images are mixed into those of `tasks`.
    """

    images: Images
    head: ZeroShotHead
    tasks: Sequence[Task] = ()
    class_names: Sequence[str] = ()
    replay_tasks: Sequence[Task] = ()

    @classmethod
    def of_task(
        cls, task: Task, model: PreTrainedModel, processor: ProcessorMixin, args: PaintTrainingArguments
    ) -> "TrainingSet":
        """Load the train split of a task and build its head.

        Raises:
            InputError: If the task has no train split, or it cannot be read.
        """
        split = load_splits(task, ("train",)).get("train")
        if split is None:
            raise InputError(f"Task '{task.name}' has no train split, so it cannot be trained on.")
        return cls.of_split(split, model, processor, args)

    @classmethod
    def of_split(
        cls,
        split: Split,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        args: PaintTrainingArguments,
        *,
        head: ZeroShotHead | None = None,
    ) -> "TrainingSet":
        """Return the training images of a split with a head, by default its own."""
        task, cache_dir = split.task, default_cache_dir()
        head = head or build_task_head(model, processor.tokenizer, task, split.class_names, cache_dir=cache_dir)
        images = make_training_images(split, PixelTransform(processor), args, cache_dir=cache_dir)
        return cls(images=images, head=head, tasks=[task], class_names=split.class_names)

    @classmethod
    def of_dataset(
        cls,
        rows: datasets.Dataset,
        head: ZeroShotHead | None,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        args: PaintTrainingArguments,
    ) -> "TrainingSet":
        """Return the training set for a data set in memory, with images or with `pixel_values`.

        Args:
            rows: Rows with an image column and a label column, or with `pixel_values` and `labels`.
            head: Zero-shot head whose rows the labels index; by default, that of the data set's class names.
            model: CLIP model.
            processor: Processor of the model.
            args: Training arguments.

        Raises:
            InputError: If the columns are missing, or there is neither a head nor class names.
        """
        if head is not None and "pixel_values" in rows.column_names:
            return cls(images=rows if rows.format["type"] else rows.with_format("torch"), head=head)
        split = split_of(rows, "dataset", split="train", num_classes=None if head is None else len(head.weight))
        found = cls.of_split(split, model, processor, args, head=head)
        return replace(found, tasks=())

    @classmethod
    def of_tasks(
        cls,
        tasks: Sequence[Task],
        model: PreTrainedModel,
        processor: ProcessorMixin,
        args: PaintTrainingArguments,
        *,
        replay_tasks: Sequence[Task] = (),
    ) -> "TrainingSet":
        """Load the train splits of tasks and build their heads; several tasks are trained jointly.

        Raises:
            InputError: If a task cannot be trained on, alone or together with the others.
        """
        check_trainable(tasks, args, replay_tasks)
        parts = [cls.of_task(task, model, processor, args) for task in (*tasks, *replay_tasks)]
        if len(parts) == 1:
            return parts[0]
        images = JointImages(
            [part.images for part in parts],
            [len(part.head.weight) for part in parts],
            sampling=args.task_sampling,
            temperature=args.sampling_temperature,
            seed=args.seed,
            num_replayed=len(replay_tasks),
            replay_share=args.replay_share,
        )
        head = JointHead([part.head for part in parts])
        return cls(images=images, head=head, tasks=tasks, replay_tasks=replay_tasks)

    def trainable_head(self, args: PaintTrainingArguments) -> ClassificationHead:
        """Return a head to train with the image tower, initialised as the zero-shot head (WiSE-FT).

        Raises:
            InputError: If there is more than one task, a class has several names, or `freeze_tower` or `head_steps` is
                set.
        """
        if args.freeze_tower or args.head_steps:
            raise InputError(
                "PaintTrainer trains the head and the image tower together. For `freeze_tower` and `head_steps`, use "
                "HeadTrainer, or `patch_single`, which uses both trainers."
            )
        if len(self.tasks) != 1 or self.tasks[0].class_groups is not None:
            raise InputError("`train_head` requires exactly one `train_task`, with a single name per class.")
        [task] = self.tasks
        return ClassificationHead.from_zero_shot(self.head, self.class_names, templates=task.templates, task=task.name)


def make_training_set(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    args: PaintTrainingArguments,
    *,
    train_task: TaskLike | Sequence[TaskLike] | None,
    replay_tasks: TaskLike | Sequence[TaskLike],
    train_dataset: Images | None,
    head: ZeroShotHead | None,
) -> TrainingSet:
    """Return the training set for `PaintTrainer`, from either tasks or a data set.

    Raises:
        InputError: If both or neither are passed, or a task cannot be trained on.
    """
    if replay_tasks and not train_task:
        raise InputError("`replay_tasks` are mixed into the images of a task. Pass a `train_task`, or remove them.")
    if isinstance(train_dataset, datasets.Dataset) and not train_task:
        return TrainingSet.of_dataset(train_dataset, head, model, processor, args)
    if train_dataset is not None and head is not None and not train_task:
        return TrainingSet(images=train_dataset, head=head)
    if train_task and train_dataset is None and head is None:
        replayed = get_tasks(replay_tasks)
        return TrainingSet.of_tasks(get_tasks(train_task), model, processor, args, replay_tasks=replayed)
    raise InputError(
        "Pass either `train_task`, or `train_dataset` with its `head`. Only a `datasets.Dataset` whose labels are a "
        "`ClassLabel` needs no `head`."
    )


def check_trainable(tasks: Sequence[Task], args: PaintTrainingArguments, replay_tasks: Sequence[Task] = ()) -> None:
    """Check that tasks can be trained together with these arguments, while others are replayed.

    Raises:
        InputError: If a task is listed twice, can only be trained alone, or is incompatible with the arguments.
    """
    if replay_tasks and args.train_head:
        raise InputError(
            "`train_head` trains the head of one task, so no other can be replayed. Remove `replay_tasks`."
        )
    if replay_tasks and args.train_sampling_strategy == "sequential":
        raise InputError(
            "With `train_sampling_strategy: sequential`, `replay_tasks` would come after all other images. Remove one "
            "of the two."
        )
    tasks = [*tasks, *replay_tasks]
    names = [task.name for task in tasks]
    for task in tasks:
        if task.streaming:
            check_stream(task, args)
        if names.count(task.name) > 1:
            raise InputError(
                f"Task '{task.name}' is listed twice. List each task once; if these are different data, name one of "
                f"them: {{name: other-{task.name}, dataset: ...}}."
            )
        keys = [key for key in ("streaming", "class_groups", "choices_column") if getattr(task, key, None)]
        if len(tasks) > 1 and keys:
            reason = "streams" if task.streaming else f"has `{keys[0]}`"
            raise InputError(f"Task '{task.name}' {reason}, so it can only be trained alone. Remove other tasks.")
        if args.train_head and isinstance(task, MultipleChoiceTask):
            raise InputError(f"Task '{task.name}' has `choices_column` instead of classes. Remove `train_head`.")


def make_training_images(
    split: Split, transform: PixelTransform, args: PaintTrainingArguments, *, cache_dir: str | Path
) -> Images:
    """Return the images of a train split, augmented and ordered according to the arguments.

    Raises:
        InputError: If a streaming task is combined with epochs or dataloader workers, or images cannot be read.
    """
    if not split.task.streaming:
        if args.augmentation == "none":
            return CachedImages(split, transform, cache_dir=cache_dir)
        return make_train_images(split, transform, args, cache_dir=Path(cache_dir))
    check_stream(split.task, args)
    buffer_size = 1 if args.train_sampling_strategy == "sequential" else SHUFFLE_BUFFER
    return StreamedTrainImages(split, transform, args.augmentation, seed=args.seed, buffer_size=buffer_size)


def check_stream(task: Task, args: PaintTrainingArguments) -> None:
    """Check that the arguments support a streaming task.

    Raises:
        InputError: If `max_steps` is not set, `dataloader_num_workers` is not 0, or `augmentation_device` is `cuda`.
    """
    if args.dataloader_num_workers or (args.max_steps or 0) <= 0:
        raise InputError(f"Task '{task.name}' streams, so it needs `max_steps` and `dataloader_num_workers: 0`.")
    if args.augmentation_device == "cuda":
        raise InputError(
            f"Task '{task.name}' streams, so its images are augmented on the CPU as they are read. Remove "
            "`augmentation_device: cuda`, or `streaming`."
        )
