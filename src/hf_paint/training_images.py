"""The images that a model is trained on: augmented, in an order that an interrupted run can take up again."""

from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from hf_paint.data.images import CachedImages
from hf_paint.data.splits import Split
from hf_paint.data.training_images import SHUFFLE_BUFFER, StreamedTrainImages, TrainImages
from hf_paint.data.transforms import PixelTransform
from hf_paint.errors import InputError
from hf_paint.tasks.task import Task
from hf_paint.training_args import PaintTrainingArguments


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
