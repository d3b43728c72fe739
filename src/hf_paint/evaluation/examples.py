"""Plot a few images of a task with predictions from before and after patching."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill, shorten, wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import nn

from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.results.plots.fonts import save_figure


NUM_EXAMPLES = 12
"""Number of images per task."""

COLUMNS = 4
NUM_CANDIDATES = 3
"""Number of candidates to show per image, starting with the most probable one."""
COLOURS = {"right": "yellowgreen", "written on the image": "salmon", "other": "lightgray"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """Image with predictions from the model before and after patching.

    Attributes:
        pixels: Image as the model sees it, uint8, shape (height, width, 3).
        candidates: Class names or candidate answers.
        labels: Indices of the correct candidates.
        written: Index of the candidate that is written on the image. None for images without words.
        question: Question about the image. None if the candidates are classes.
        before: Probabilities before patching, shape (num_candidates,).
        after: Probabilities after patching, shape (num_candidates,).
    """

    pixels: NDArray[np.uint8]
    candidates: Sequence[str]
    labels: Sequence[int]
    written: int | None
    question: str | None
    before: NDArray[np.float32]
    after: NDArray[np.float32]


def choose_images(
    before: NDArray[np.bool_], after: NDArray[np.bool_], *, count: int = NUM_EXAMPLES, seed: int = 0
) -> NDArray[np.int64]:
    """Sample images at random, starting with those that only one of the two models classifies correctly.

    Args:
        before: Whether each image is classified correctly before patching, shape (num_images,).
        after: Whether each image is classified correctly after patching, shape (num_images,).
        count: Maximum number of images.
        seed: Random seed.

    Returns:
        Indices of the images, shape (count,).

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
    """Return a sentence that explains how `choose_images` selected the images.

    Example:
        >>> describe_choice(np.array([True, False]), np.array([True, True]), images="images", count=2)
        'Drawn at random from 2 images: 1 of the 1 that changed (1 now right, 0 now wrong), and 1 of the rest.'
    """
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    drawn = min(count, gained + lost)
    others = min(count, len(before)) - drawn
    rest = f", and {others} of the rest" if others else ""
    return (
        f"Drawn at random from {len(before)} {images}: {drawn} of the {gained + lost} that changed "
        f"({gained} now right, {lost} now wrong){rest}."
    )


def probabilities(
    evaluator: Evaluator, tower: nn.Module, task: PreparedTask, split: str, indices: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return a model's probabilities for some images of a split, shape (num_indices, num_columns)."""
    logits, _ = evaluator.logits(tower, task, split, indices=indices)
    values: NDArray[np.float32] = logits.softmax(dim=-1).numpy()
    return values


def make_examples(
    task: PreparedTask,
    split: str,
    indices: NDArray[np.int64],
    *,
    before: NDArray[np.float32],
    after: NDArray[np.float32],
) -> list[Example]:
    """Return some images of a split together with both models' probabilities, shape (num_indices, num_columns)."""
    images = task.images[split]
    labels, choices = images.labels.reshape(len(images), -1), images.choices
    labels = labels if choices is None else labels[:, :1]  # the others are the candidates
    examples = []
    for position, index in enumerate(indices.tolist()):
        candidates = task.class_names if choices is None else choices.candidates[index]
        example = Example(
            pixels=images.pixels[index].transpose(1, 2, 0).copy(),
            candidates=candidates,
            labels=[label for label in labels[index].tolist() if label >= 0],
            written=None if images.written is None else int(images.written[index]),
            question=None if choices is None else choices.questions[index],
            before=before[position, : len(candidates)],  # the rest is padding
            after=after[position, : len(candidates)],
        )
        examples.append(example)
    return examples


WORD_WIDTH, LINE_WIDTH, CAPTION_WIDTH = 26, 34, 120
"""Maximum number of characters in a candidate, in a line above an image, and in a line of the caption."""
WIDTH, TEXT, IMAGE, LINE, GAP, MARGIN = 2.1, 0.55, 1.5, 0.12, 0.12, 0.08
"""Inches: width of an example, height of the text above an image, side of an image, height of a candidate, space below
an example, and space beside it."""
HEAD, FOOT = 0.35, 0.55
"""Inches above the first row of examples and below the last one."""


def plot_examples(examples: Sequence[Example], path: str | Path, *, title: str, patched: str, caption: str) -> None:
    """Plot images with their most probable candidates, for the zero-shot model above and the patched model below.

    Everything is drawn in a single set of axes in inches, which is many times faster than axes for each image.

    Args:
        examples: Images to plot.
        path: Path to the output image file.
        title: Title of the plot.
        patched: Name of the patched model.
        caption: Caption, which should say how the images were selected.
    """
    lines = 2 * (NUM_CANDIDATES + 1)  # one line for the name of the model
    row_height = TEXT + IMAGE + LINE * lines + GAP
    width, height = WIDTH * COLUMNS, HEAD + row_height * -(-len(examples) // COLUMNS) + FOOT
    figure = Figure(figsize=(width, height), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    for position, example in enumerate(examples):
        row, column = divmod(position, COLUMNS)
        left, top = WIDTH * column + MARGIN, HEAD + row_height * row + TEXT
        _draw_image(axes, example, left, top)
        _draw_candidates(axes, example, patched, left, top + IMAGE + LINE / 2)
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.text(MARGIN, HEAD / 2, title, fontsize=10, va="center", parse_math=False)
    axes.text(
        width / 2,
        height - FOOT / 2,
        fill(caption, CAPTION_WIDTH),
        fontsize=7,
        ha="center",
        va="center",
        parse_math=False,
    )
    names = [name for name in COLOURS if name != "written on the image" or examples[0].written is not None]
    handles = [Patch(color=COLOURS[name], label=name) for name in names]
    axes.legend(handles=handles, loc="upper right", ncols=len(handles), frameon=False, fontsize=7)
    save_figure(figure, path)


def _draw_image(axes: Axes, example: Example, left: float, top: float) -> None:
    """Draw an image, with the question, the correct candidate and the word written on the image above it."""
    start = left + (WIDTH - 2 * MARGIN - IMAGE) / 2
    axes.imshow(example.pixels, extent=(start, start + IMAGE, top + IMAGE, top), aspect="auto")
    lines = wrap(example.question or "", LINE_WIDTH, max_lines=2, placeholder=" ...")
    lines.append(f"right: {_short(', '.join(example.candidates[label] for label in example.labels))}")
    if example.written is not None:
        lines.append(f"written: {_short(example.candidates[example.written])}")
    middle = start + IMAGE / 2
    axes.text(middle, top - 0.03, "\n".join(lines), fontsize=7, ha="center", va="bottom", parse_math=False)


def _draw_candidates(axes: Axes, example: Example, patched: str, left: float, top: float) -> None:
    """Draw both models' probabilities as bars labelled with the candidates."""
    right = left + WIDTH - 2 * MARGIN
    for name, probability in (("zero-shot", example.before), (patched, example.after)):
        axes.text(left, top, name, fontsize=6, va="center", parse_math=False)
        candidates = _most_probable(probability)
        places = top + LINE * np.arange(1, len(candidates) + 1)
        colours = [COLOURS[_kind(example, candidate)] for candidate in candidates]
        lengths = probability[candidates] * (right - left)
        axes.barh(places, lengths, left=left, height=0.9 * LINE, color=colours)
        for place, candidate in zip(places, candidates, strict=True):
            word = _short(example.candidates[candidate])
            axes.text(left + 0.03, place, word, fontsize=6, va="center", parse_math=False)
            axes.text(right, place, f"{100 * probability[candidate]:.0f} %", fontsize=6, va="center", ha="right")
        top += LINE * (NUM_CANDIDATES + 1)


def _most_probable(probability: NDArray[np.float32]) -> list[int]:
    order: list[int] = np.argsort(-probability, kind="stable").tolist()
    return order[:NUM_CANDIDATES]


def _kind(example: Example, candidate: int) -> str:
    if candidate in example.labels:
        return "right"
    return "written on the image" if candidate == example.written else "other"


def _short(word: str) -> str:
    return shorten(word, WORD_WIDTH, placeholder="...") if " " in word else word[:WORD_WIDTH]
