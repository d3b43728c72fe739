"""Samples of a split: some of its images, drawn by class, to measure accuracy quickly.

A sample depends only on the labels of the split and on the number of images. It is thus the same at every alpha, in
every process and run, and for a task and its corrupted copies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_paint.data.choices import distinct_texts
from hf_paint.data.label_lists import labelled
from hf_paint.data.strata import find_strata
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.task import Task


if TYPE_CHECKING:
    from hf_paint.data.splits import Split

SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Where the images of a sampled split come from.

    Attributes:
        whole: The split that they were drawn from.
        indices: Their indices in it, in ascending order, shape (num_images,).
    """

    whole: "Split"
    indices: NDArray[np.int64]

    @property
    def drawn_from(self) -> int:
        """Number of images in the whole split that accuracy counts."""
        return int(labelled(self.whole.labels()).sum())


def check_max_images(max_images: int | None, tasks: Sequence[Task] = ()) -> None:
    """Check a number of images to draw, and that they can be drawn from these tasks.

    Raises:
        InputError: If the number is not positive, or a task is streamed.
    """
    if max_images is None:
        return
    if isinstance(max_images, bool) or not isinstance(max_images, (int, np.integer)) or max_images < 1:
        raise InputError(f"`max_eval_images` must be a positive number of images, got {max_images!r}.")
    for task in tasks:
        if task.streaming:
            raise InputError(
                f"Task '{task.name}' is streamed, so `max_eval_images` cannot draw its images by class. Remove "
                "`streaming`, or `max_eval_images`."
            )


def sample_splits(splits: "Mapping[str, Split]", max_images: int | None) -> "dict[str, Split]":
    """Return the splits of a task, each with at most so many images.

    Args:
        splits: Name -> split.
        max_images: Maximum number of images per split; None keeps all, as does a split with no more images.

    Raises:
        InputError: If the number is not positive, or the task is streamed.
    """
    check_max_images(max_images, [split.task for split in splits.values()])
    sampled = {name: _sample(split, max_images) for name, split in splits.items()}
    return share_texts(sampled)


def share_texts(splits: "Mapping[str, Split]") -> "dict[str, Split]":
    """Return the splits of a task; those of a multiple-choice task get the prompts of all their candidates."""
    choices = [split.choices for split in splits.values() if split.choices is not None]
    texts = distinct_texts(choices)
    return {name: replace(split, class_names=texts) if choices else split for name, split in splits.items()}


def _sample(split: "Split", max_images: int | None) -> "Split":
    if max_images is None or len(split.rows) <= max_images:
        return split
    indices = draw(find_strata(split), int(max_images))
    return replace(
        split.select(indices),
        fingerprint=fingerprint_values(split.fingerprint, "sample", indices.tolist()),
        sample=Sample(whole=split, indices=indices),
    )


def draw(strata: NDArray[np.int64], count: int, *, seed: int = SEED) -> NDArray[np.int64]:
    """Draw images at random from every stratum, in proportion to its size.

    The numbers are rounded by the largest remainders. A stratum that would get no image gets one, at the cost of the
    others. If there are more strata than images to draw, as many strata as possible, drawn at random, get one.

    Args:
        strata: Number of the stratum of each image, shape (num_images,).
        count: Number of images to draw, below `num_images`.
        seed: Random seed.

    Returns:
        Indices of the images in ascending order, shape (count,).

    Example:
        >>> draw(np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2]), 5).shape
        (5,)
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(strata))
    _, numbers, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    shares = _shares(sizes, count, generator)
    by_stratum = order[np.argsort(numbers[order], kind="stable")]  # stratum after stratum, each in random order
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    drawn = [by_stratum[start : start + share] for start, share in zip(starts, shares, strict=True)]
    indices: NDArray[np.int64] = np.sort(np.concatenate(drawn))
    return indices


def _shares(sizes: NDArray[np.int64], count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return how many images to draw from each stratum."""
    shuffled = generator.permutation(len(sizes))  # so that ties are not won by the first classes
    if count <= len(sizes):
        return np.isin(np.arange(len(sizes)), shuffled[:count]).astype(np.int64)
    shares, is_small = np.ones(len(sizes), dtype=np.int64), np.zeros(len(sizes), dtype=bool)
    while True:  # what the small strata get more than their share is taken from the others, some of which become small
        left = count - int(is_small.sum())
        quotas = left * sizes / sizes[~is_small].sum()
        smaller = ~is_small & (quotas < 1)
        if not smaller.any():
            break
        is_small |= smaller
    others = shuffled[~is_small[shuffled]]
    shares[others] = largest_remainders(quotas[others], left)
    return shares


def largest_remainders(quotas: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Round quotas, which sum to `total`, to integers that do too; of equal remainders, the first are rounded up.

    Example:
        >>> largest_remainders(np.array([1.5, 2.7, 0.8]), 5)
        array([1, 3, 1])
    """
    counts = np.floor(quotas).astype(np.int64)
    counts[np.argsort(counts - quotas, kind="stable")[: total - counts.sum()]] += 1
    return counts
