"""Pixels of a few training images, on which a merging method measures something."""

from collections.abc import Collection, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from hf_paint.data.images import decode, stream_rows
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.patching.run import PatchRun


def training_pixels(
    run: PatchRun, task: PreparedTask, num_images: int, *, seed: int, batch_size: int
) -> Sequence[Tensor]:
    """Return batches of normalised pixels from random training images, or from the start of a stream.

    Args:
        run: Run whose device the pixels are moved to.
        task: Task with a train split.
        num_images: Number of images; all, if the split has fewer.
        seed: Seed for drawing the images.
        batch_size: Number of images per batch.
    """
    split = load_splits(task.task, ("train",))["train"]
    if task.task.streaming:
        images = [row[task.task.image_column] for row in islice(stream_rows(split), num_images)]
    else:
        order = np.random.default_rng(seed).permutation(len(split.rows))[:num_images]
        images = [decode(split, int(index)) for index in order]
    pixels = torch.stack([task.transform.resize_and_crop(image) for image in images])
    return [task.transform.normalize(batch.to(run.args.device)) for batch in pixels.split(batch_size)]


def share_of(num_images: int, tasks: Collection[PreparedTask]) -> int:
    """Return how many of a number of images each task gets, rounded up."""
    return -(-num_images // len(tasks))
