"""Plot a few images of a task with predictions from before and after patching."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill, shorten, wrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_paint.results.details import NUM_CANDIDATES


if TYPE_CHECKING:
    from matplotlib.axes import Axes


COLUMNS = 4
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
        before: Most probable candidates before patching, best first: (index, probability).
        after: Most probable candidates after patching.
    """

    pixels: NDArray[np.uint8]
    candidates: Sequence[str]
    labels: Sequence[int]
    written: int | None
    question: str | None
    before: Sequence[tuple[int, float]]
    after: Sequence[tuple[int, float]]


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
    from matplotlib.figure import Figure  # only now, because matplotlib takes a second to import
    from matplotlib.patches import Patch

    from hf_paint.results.plots.fonts import save_figure

    lines = 2 * (NUM_CANDIDATES + 1)  # one line for the name of the model
    row_height = TEXT + IMAGE + LINE * lines + GAP
    width, height = WIDTH * COLUMNS, HEAD + row_height * -(-len(examples) // COLUMNS) + FOOT
    figure = Figure(figsize=(width, height), dpi=100, layout="none")  # type: ignore[arg-type]
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


def _draw_image(axes: "Axes", example: Example, left: float, top: float) -> None:
    """Draw an image, with the question, the correct candidate and the word written on the image above it."""
    start = left + (WIDTH - 2 * MARGIN - IMAGE) / 2
    axes.imshow(example.pixels, extent=(start, start + IMAGE, top + IMAGE, top), aspect="auto")
    lines = wrap(example.question or "", LINE_WIDTH, max_lines=2, placeholder=" ...")
    lines.append(f"right: {_short(', '.join(example.candidates[label] for label in example.labels))}")
    if example.written is not None:
        lines.append(f"written: {_short(example.candidates[example.written])}")
    middle = start + IMAGE / 2
    axes.text(middle, top - 0.03, "\n".join(lines), fontsize=7, ha="center", va="bottom", parse_math=False)


def _draw_candidates(axes: "Axes", example: Example, patched: str, left: float, top: float) -> None:
    """Draw both models' probabilities as bars labelled with the candidates."""
    right = left + WIDTH - 2 * MARGIN
    for name, answers in (("zero-shot", example.before), (patched, example.after)):
        axes.text(left, top, name, fontsize=6, va="center", parse_math=False)
        places = top + LINE * np.arange(1, len(answers) + 1)
        colours = [COLOURS[_kind(example, candidate)] for candidate, _ in answers]
        lengths = [probability * (right - left) for _, probability in answers]
        axes.barh(places, lengths, left=left, height=0.9 * LINE, color=colours)
        for place, (candidate, probability) in zip(places, answers, strict=True):
            word = _short(example.candidates[candidate])
            axes.text(left + 0.03, place, word, fontsize=6, va="center", parse_math=False)
            axes.text(right, place, f"{100 * probability:.0f} %", fontsize=6, va="center", ha="right")
        top += LINE * (NUM_CANDIDATES + 1)


def _kind(example: Example, candidate: int) -> str:
    if candidate in example.labels:
        return "right"
    return "written on the image" if candidate == example.written else "other"


def _short(word: str) -> str:
    return shorten(word, WORD_WIDTH, placeholder="...") if " " in word else word[:WORD_WIDTH]
