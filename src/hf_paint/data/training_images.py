"""Augmented training images, in an order that is reproducible when a run resumes."""

import itertools
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_paint.data.images import Example, stream_rows
from hf_paint.data.pictures import Pictures
from hf_paint.data.splits import Indices, Split
from hf_paint.data.transforms import Augmentation, PixelTransform, augment, random_box
from hf_paint.errors import InputError


Row = TypeVar("Row")
SHUFFLE_BUFFER = 1000
"""Number of images in the shuffle buffer of a streamed train split."""


class TrainImages(Dataset[Example]):
    """The training images of a task. An image's augmentation is determined by (seed, epoch, index).

    A run that is interrupted in the middle of an epoch and then resumed is thus identical to an uninterrupted one. The
    epoch is in shared memory, so that persistent dataloader workers see it change.

    Args:
        split: Split to read.
        transform: Transform from images to pixels.
        augmentation: `paint` or `none`.
        seed: Random seed for augmentation.
        pictures: The decoded pictures of the split; by default, each is decoded when it is read.
        resize: Resize crops with Pillow. Otherwise, examples have a `crop`, which is resized with its batch.
    """

    def __init__(
        self,
        split: Split,
        transform: PixelTransform,
        augmentation: Augmentation,
        *,
        seed: int,
        pictures: Pictures | None = None,
        resize: bool = True,
    ) -> None:
        self.split = split
        self.pictures: Pictures = pictures or Pictures(split)
        self.resize = resize
        self.transform = transform
        self.augmentation = augmentation
        self.seed = seed
        self.labels: Indices = split.targets(split.labels())
        self.epoch: Tensor = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that determines the augmentation of the following images."""
        self.epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return self.example(index, int(self.epoch))

    def example(self, index: int, epoch: int) -> Example:
        """Return an image augmented as in the given epoch, regardless of `set_epoch`."""
        picture, label = self.pictures.read(index, epoch), self.labels[index].tolist()
        if self.augmentation == "none":
            return {"pixel_values": self.transform.resize_and_crop(picture.to_image()), "labels": label}
        box = random_box(*picture.size, np.random.default_rng((self.seed, epoch, index)))
        if self.resize:
            return {"pixel_values": self.transform.resize(picture.crop(box)), "labels": label}
        return {"crop": picture.crop_pixels(box), "labels": label}


class StreamedTrainImages(IterableDataset[Example]):
    """The training images of a streamed task, repeated endlessly in passes with different orders.

    The order and augmentation are determined by (seed, pass, position), and a resumed trainer skips the images that it
    has already seen. An interrupted run is therefore identical to an uninterrupted one.

    Args:
        split: Split to read.
        transform: Transform from images to pixels.
        augmentation: `paint` or `none`.
        seed: Random seed for the order and augmentation.
        buffer_size: Number of images in the shuffle buffer; with 1, the order of the stream is unchanged.
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

    def __iter__(self) -> Iterator[Example]:
        task = self.split.task
        for number in itertools.count():
            generator = np.random.default_rng((self.seed, number))
            position = -1
            for position, row in enumerate(shuffled(stream_rows(self.split, number), self.buffer_size, generator)):
                key = (self.seed, number, position)
                pixels = augment(row[task.image_column], self.transform, self.augmentation, key)
                yield {"pixel_values": pixels, "labels": self.split.class_of(row)}
            if position < 0:
                raise InputError(f"The train stream of task '{task.name}' is empty. Check its `splits`.")


def shuffled(rows: Iterator[Row], buffer_size: int, generator: np.random.Generator) -> Iterator[Row]:
    """Yield all rows in random order, drawing each one from a buffer that is refilled from the stream."""
    buffer = list(itertools.islice(rows, buffer_size))
    for row in rows:
        index = int(generator.integers(len(buffer)))
        yield buffer[index]
        buffer[index] = row
    for index in generator.permutation(len(buffer)):
        yield buffer[index]


class EpochCallback(TrainerCallback):
    """Calls `set_epoch` on the training images before the dataloader starts its workers, also when a run resumes.

    Args:
        train_dataset: Training images; ignored if it has no `set_epoch` method.
    """

    def __init__(self, train_dataset: object) -> None:
        self.train_dataset = train_dataset

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Set the epoch; `state.epoch` is fractional if a run resumes in the middle of an epoch."""
        if hasattr(self.train_dataset, "set_epoch"):
            self.train_dataset.set_epoch(int(state.epoch or 0))
