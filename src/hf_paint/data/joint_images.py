"""Training on the images of several tasks: a data set that mixes them by a sampling rule, or replays some of them."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from hf_paint.data.images import Example
from hf_paint.data.label_lists import NO_CLASS
from hf_paint.data.pixel_cache import Label
from hf_paint.data.samples import largest_remainders
from hf_paint.data.training_images import TrainImages
from hf_paint.errors import InputError


TaskSampling = Literal["proportional", "uniform", "temperature"]


class JointImages(Dataset[Example]):
    """The training images of several tasks combined; a sampling rule sets how many come from each task.

    An epoch contains as many images as all tasks have in total. Tasks that are replayed do not count towards this
    total: their images are added to it until they make up `replay_share` of the epoch, the same number from each task.
    The images of a task are drawn in passes: each pass goes through all of them in a new order, and continues in the
    next epoch where the last one stopped. After any epoch, each image of a task has thus been drawn equally often,
    give or take one. As in `TrainImages`, an image and its augmentation are determined by (seed, epoch, index), and
    the epoch is in shared memory.

    Args:
        images: Training images of each task.
        num_classes: Number of classes of each task. Labels count through the classes of all tasks in order.
        sampling: `proportional` (each image once per epoch, task after task), `uniform` (the same number of images
            from each task) or `temperature` (from a task with n images, a number proportional to
            `n ** (1 / temperature)`).
        temperature: 1 is equivalent to `proportional`, infinity to `uniform`.
        seed: Random seed for the order.
        num_replayed: Number of tasks, counted from the last, that are replayed.
        replay_share: Their share of the images of an epoch, above 0 and below 1.

    Raises:
        InputError: If a task would get no images.

    Example:
        >>> few, many = ([{"pixel_values": 0, "labels": 0}] * count for count in (2, 6))
        >>> joint = JointImages([few, many], [10, 10], sampling="uniform")
        >>> [joint[index]["labels"] for index in range(len(joint))]
        [0, 0, 0, 0, 10, 10, 10, 10]
    """

    def __init__(
        self,
        images: Sequence[Any],
        num_classes: Sequence[int],
        *,
        sampling: TaskSampling = "proportional",
        temperature: float = 2.0,
        seed: int = 0,
        num_replayed: int = 0,
        replay_share: float = 0.25,
    ) -> None:
        self.images = images
        self.offsets: list[int] = [0, *accumulate(num_classes)][:-1]
        self.num_learned: int = len(images) - num_replayed
        self.shuffle: bool = sampling != "proportional"  # if proportional, the sampler shuffles
        self.seed = seed
        sizes = [len(task_images) for task_images in images[: self.num_learned]]
        counts = images_per_epoch(sizes, sampling, temperature=temperature)
        counts += replayed_per_epoch(sum(counts), num_replayed, replay_share)
        self.bounds: list[int] = [0, *accumulate(counts)]
        # the row and pass for each index
        self.drawn: torch.Tensor = torch.zeros((2, len(self)), dtype=torch.int64).share_memory_()
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the images for an epoch."""
        drawn = [self._draw(task, epoch, end - start) for task, (start, end) in enumerate(pairwise(self.bounds))]
        self.drawn.copy_(torch.from_numpy(np.concatenate(drawn, axis=1)))

    def __len__(self) -> int:
        return self.bounds[-1]

    def __getitem__(self, index: int) -> Example:
        task = bisect_right(self.bounds, index) - 1
        row, number = self.drawn[:, index].tolist()
        images = self.images[task]
        # augmentation depends on the pass, so an image that occurs twice in an epoch is augmented differently
        example = images.example(row, number) if isinstance(images, TrainImages) else images[row]
        return example | {"labels": _shifted(example["labels"], self.offsets[task])}

    def _draw(self, task: int, epoch: int, count: int) -> NDArray[np.int64]:
        """Return the rows that an epoch takes from a task, and the pass that each belongs to, shape (2, count)."""
        num_rows, start = len(self.images[task]), epoch * count
        passes = np.arange(start, start + count) // num_rows
        orders = [self._order(task, number) for number in range(passes[0], passes[-1] + 1)]
        rows = np.concatenate(orders)[start % num_rows :][:count]
        return np.stack([rows, passes])

    def _order(self, task: int, number: int) -> NDArray[np.int64]:
        num_rows = len(self.images[task])
        if not self.shuffle and task < self.num_learned:
            return np.arange(num_rows)
        return np.random.default_rng((self.seed, task, number)).permutation(num_rows)


def _shifted(label: Label, offset: int) -> Label:
    """Return the class or the classes of an image, counted through the classes of all tasks.

    Multiple-choice tasks, whose labels also list the candidates, are always trained alone.
    """
    if isinstance(label, list):
        return [offset + index for index in label if index != NO_CLASS]
    return offset + label


def replayed_per_epoch(num_learned: int, num_tasks: int, share: float) -> list[int]:
    """Return how many images an epoch replays from each replay task, beside the images that are learned.

    Raises:
        InputError: If a task would get no images.

    Example:
        >>> replayed_per_epoch(90, 2, 0.25)  # 30 of 120 images
        [15, 15]
    """
    if not num_tasks:
        return []
    total = round(num_learned * share / (1 - share))
    if total < num_tasks:
        raise InputError(
            f"With `replay_share: {share:g}`, {total} images are replayed beside the {num_learned} of an epoch, which "
            f"leaves none for one of {num_tasks} replay tasks. Raise `replay_share`."
        )
    counts = largest_remainders(np.full(num_tasks, total / num_tasks), total)
    return [int(count) for count in counts]


def images_per_epoch(sizes: Sequence[int], sampling: TaskSampling, *, temperature: float) -> list[int]:
    """Divide an epoch of `sum(sizes)` images among tasks of these sizes, by the largest remainder method.

    Raises:
        InputError: If a task would get no images, which can only happen at temperatures below 1.

    Example:
        >>> images_per_epoch([10, 90], "temperature", temperature=2.0)
        [25, 75]
    """
    exponent = {"proportional": 1.0, "uniform": 0.0, "temperature": 1 / temperature}[sampling]
    total = sum(sizes)
    weights = (np.array(sizes) / max(sizes)) ** exponent
    quotas = total * weights / weights.sum()
    counts = largest_remainders(quotas, total)
    if not counts.all():
        raise InputError(
            f"With `sampling_temperature: {temperature:g}`, a task with {sizes[int(counts.argmin())]} images would "
            f"get none of the {total} images in an epoch. Raise `sampling_temperature`."
        )
    return [int(count) for count in counts]
