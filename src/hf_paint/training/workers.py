"""Choose the number of worker processes that decode and augment training images, if none was given."""

import os
import shutil
import time
from copy import copy
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import get_int_from_env
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_paint.data.images import collate
from hf_paint.data.joint_images import JointImages
from hf_paint.data.training_images import TrainImages
from hf_paint.errors import inform_once
from hf_paint.training.batch_size import images_of_run
from hf_paint.training.training_args import PaintTrainingArguments


MIN_SECONDS = 10.0
"""How long one core must be busy with the images of a training for worker processes to be worth their start."""
MAX_WORKERS = 32
SAMPLE = 8
"""Number of images that are timed."""
PREFETCHED = 2
"""How many batches a worker prepares ahead, as in PyTorch."""
SHARED_MEMORY = Path("/dev/shm")
LOCAL_PROCESSES = (
    *("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS"),
    *("OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
)
"""Environment variables in which launchers say how many processes they started on this machine."""


def with_workers(args: PaintTrainingArguments, images: object) -> PaintTrainingArguments:
    """Load the pictures of the training images, and return arguments with a number of dataloader workers.

    A number that was given is kept. Another is chosen, and said. It never changes the trained weights, because
    an augmented image is determined by (seed, epoch, index).

    Args:
        args: Training arguments.
        images: Training images. Only those of tasks are given to workers: pixels in memory are faster to read than to
            send from one process to another, and a data set of the user may depend on its process.
    """
    parts = images.images if isinstance(images, JointImages) else [images]
    decoded = [part for part in parts if isinstance(part, TrainImages)]
    for part in decoded:
        part.pictures.load()  # before there are workers, each of which would open the cache
    if not args.chooses_workers or not isinstance(images, (TrainImages, JointImages)) or not decoded:
        return args
    seconds, num_bytes = _time_image(images)
    work = seconds * images_of_run(args, len(images)) / args.world_size
    number = 0 if work < MIN_SECONDS else _fitting(num_cores() - 1, args.per_device_train_batch_size * num_bytes)
    if not number:
        return args
    processes = "1 worker process prepares" if number == 1 else f"{number} worker processes prepare"
    inform_once(f"{processes} the training images; `dataloader_num_workers` sets their number.")
    chosen = copy(args)
    chosen.dataloader_num_workers = number
    chosen.dataloader_persistent_workers = True
    return chosen


def num_cores() -> int:
    """Return how many cores this process may use: those of the machine, shared by the processes of the launcher."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes: int = get_int_from_env(LOCAL_PROCESSES, 1)
    return max(1, cores // max(1, processes))


def _time_image(images: TrainImages | JointImages) -> tuple[float, int]:
    """Return the median number of seconds that an image takes, and its size in bytes."""
    rows = torch.linspace(0, len(images) - 1, SAMPLE).long().tolist()
    seconds, num_bytes = [], []
    for row in rows:
        start = time.perf_counter()
        batch = collate([images[row]])
        seconds.append(time.perf_counter() - start)
        num_bytes.append(sum(x.nbytes for x in batch.values()))
    return sorted(seconds)[SAMPLE // 2], max(num_bytes)


def _fitting(wanted: int, batch_bytes: int) -> int:
    """Return how many workers can hold their batches in half of the shared memory, which containers often limit."""
    number = min(max(1, wanted), MAX_WORKERS)
    if not SHARED_MEMORY.is_dir():
        return number
    return min(number, shutil.disk_usage(SHARED_MEMORY).free // (2 * PREFETCHED * batch_bytes))


class WorkerSeeds(TrainerCallback):
    """Draws the seed that workers which outlive an epoch do not draw, so that they leave random numbers as they are.

    Without workers, or with new ones, PyTorch draws a seed at the start of each epoch from the generator that also
    decides what dropout drops.
    """

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw the seed if the dataloader has workers from the epoch before."""
        dataloader = getattr(kwargs.get("train_dataloader"), "base_dataloader", None)
        if getattr(dataloader, "_iterator", None) is not None:
            torch.empty((), dtype=torch.int64).random_()
