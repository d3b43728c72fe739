"""The images that a model is trained on: augmented, in an order that an interrupted run can take up again."""

import itertools
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_paint.data.images import decode, stream_rows
from hf_paint.data.splits import Split
from hf_paint.data.transforms import Augmentation, PixelTransform, augment
from hf_paint.errors import InputError


Row = TypeVar("Row")
SHUFFLE_BUFFER = 1000
"""Images that a streamed train split holds to draw the next one from."""


class TrainImages(Dataset[dict[str, Any]]):
    """The training images of a task, augmented the same way whenever (seed, epoch, index) are the same.

    That the random numbers of an image depend on nothing else makes a run that was interrupted in the middle of an
    epoch and resumed equal to one that was not. The epoch lives in shared memory, so that workers which outlive an
    epoch see it change.

    Args:
        split: The rows.
        transform: Makes the pixels.
        augmentation: `paint` or `none`.
        seed: The seed of the augmentation.
    """

    def __init__(self, split: Split, transform: PixelTransform, augmentation: Augmentation, *, seed: int) -> None:
        self.split = split
        self.transform = transform
        self.augmentation = augmentation
        self.seed = seed
        self.labels = split.targets(split.labels())
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next images are for."""
        self.epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.example(index, int(self.epoch))

    def example(self, index: int, epoch: int) -> dict[str, Any]:
        """Return an image as it is in an epoch, whichever was set."""
        pixels = augment(
            decode(self.split, index, epoch), self.transform, self.augmentation, (self.seed, epoch, index)
        )
        return {"pixel_values": pixels, "labels": self.labels[index].tolist()}


class StreamedTrainImages(IterableDataset[dict[str, Any]]):
    """The training images of a stream, pass after pass without an end, each pass in an order of its own.

    The order and the augmentation depend on (seed, pass, position) alone, and a trainer that resumes skips what it has
    seen, so that here too an interrupted run equals an uninterrupted one.

    Args:
        split: The rows.
        transform: Makes the pixels.
        augmentation: `paint` or `none`.
        seed: The seed of the order and the augmentation.
        buffer_size: How many images are held to draw the next one from; 1 keeps the order of the stream.
    """

    def __init__(
        self,
        split: Split,
        transform: PixelTransform,
        augmentation: Augmentation,
        *,
        seed: int,
        buffer_size: int = SHUFFLE_BUFFER,
    ) -> None:
        self.split = split
        self.transform = transform
        self.augmentation = augmentation
        self.seed = seed
        self.buffer_size = buffer_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        task = self.split.task
        for number in itertools.count():
            generator = np.random.default_rng((self.seed, number))
            position = -1
            for position, row in enumerate(shuffled(stream_rows(self.split, number), self.buffer_size, generator)):
                key = (self.seed, number, position)
                pixels = augment(row[task.image_column], self.transform, self.augmentation, key)
                yield {"pixel_values": pixels, "labels": self.split.class_of(row)}
            if position < 0:
                raise InputError(f"The train stream of task '{task.name}' is empty.")


def shuffled(rows: Iterator[Row], buffer_size: int, generator: np.random.Generator) -> Iterator[Row]:
    """Yield each row once, drawn from a buffer that the stream refills."""
    buffer = list(itertools.islice(rows, buffer_size))
    for row in rows:
        index = int(generator.integers(len(buffer)))
        drawn, buffer[index] = buffer[index], row
        yield drawn
    for index in generator.permutation(len(buffer)):
        yield buffer[index]


class EpochCallback(TrainerCallback):
    """Tells the training images the epoch, before the dataloader makes its workers and on every way of resuming.

    Args:
        train_dataset: The images; those that know no epochs are left alone.
    """

    def __init__(self, train_dataset: Any) -> None:
        self.train_dataset = train_dataset

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the epoch; `state.epoch` is a fraction when a run resumes in the middle of one."""
        if hasattr(self.train_dataset, "set_epoch"):
            self.train_dataset.set_epoch(int(state.epoch or 0))
