"""A few images of a task with what a model says about them before and after patching."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hf_paint.evaluator import Evaluator
from hf_paint.prepared_task import PreparedTask


NUM_EXAMPLES = 12
"""Images of a task that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """One image, and what the model says about it before and after patching.

    Attributes:
        pixels: shape (height, width, 3), uint8, as the model sees it.
        candidates: The class names, or the candidate answers.
        label: The right one of them.
        written: The one that is written on the image; None where no words are.
        question: What is asked about the image; None where the candidates are classes.
        before: shape (num_candidates,), the probabilities of the model before patching.
        after: shape (num_candidates,), those of the patched model.
    """

    pixels: NDArray[np.uint8]
    candidates: Sequence[str]
    label: int
    written: int | None
    question: str | None
    before: NDArray[np.float32]
    after: NDArray[np.float32]


def choose_images(
    before: NDArray[np.bool_], after: NDArray[np.bool_], *, count: int = NUM_EXAMPLES, seed: int = 0
) -> NDArray[np.int64]:
    """Draw images at random, first of those that one model gets right and the other wrong.

    Args:
        before: shape (num_images,), which images are right before patching.
        after: shape (num_images,), which images are right after it.
        count: How many are drawn, if there are so many.
        seed: Of the draw.

    Returns:
        shape (count,), the indices of the images.

    Example:
        >>> choose_images(np.array([True, False, True]), np.array([True, True, True]), count=1)
        array([1])
    """
    order = np.random.default_rng(seed).permutation(len(before))
    is_same = before[order] == after[order]
    return order[np.argsort(is_same, kind="stable")][:count]


def describe_choice(
    before: NDArray[np.bool_], after: NDArray[np.bool_], *, images: str, count: int = NUM_EXAMPLES
) -> str:
    """Return in a sentence how `choose_images` chose, and among how many.

    Example:
        >>> describe_choice(np.array([True, False]), np.array([True, True]), images="images", count=2)
        'Drawn at random of 2 images: 1 of the 1 that became right or wrong (1 right, 0 wrong), and 1 of the rest.'
    """
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    drawn = min(count, gained + lost)
    others = min(count, len(before)) - drawn
    rest = f", and {others} of the rest" if others else ""
    return (
        f"Drawn at random of {len(before)} {images}: {drawn} of the {gained + lost} that became right or wrong "
        f"({gained} right, {lost} wrong){rest}."
    )


def probabilities(
    evaluator: Evaluator, tower: nn.Module, task: PreparedTask, split: str, indices: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return what a model says about some images of a split, shape (num_indices, num_columns)."""
    logits, _ = evaluator.logits(tower, task, split, indices=indices)
    said: NDArray[np.float32] = logits.softmax(dim=-1).numpy()
    return said


def make_examples(
    task: PreparedTask,
    split: str,
    indices: NDArray[np.int64],
    *,
    before: NDArray[np.float32],
    after: NDArray[np.float32],
) -> list[Example]:
    """Return images of a split with the probabilities (num_indices, num_columns) of both models."""
    images = task.images[split]
    labels, choices = images.labels.reshape(len(images), -1)[:, 0], images.choices
    examples = []
    for position, index in enumerate(indices.tolist()):
        candidates = task.class_names if choices is None else choices.candidates(index)
        example = Example(
            pixels=images.pixels[index].transpose(1, 2, 0).copy(),
            candidates=candidates,
            label=int(labels[index]),
            written=None if images.written is None else int(images.written[index]),
            question=None if choices is None else choices.questions[index],
            before=before[position, : len(candidates)],  # behind them there is nothing but padding
            after=after[position, : len(candidates)],
        )
        examples.append(example)
    return examples
