"""The plot of a few images with what a model says about them before and after patching."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill, shorten, wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from hf_paint.examples import Example


COLUMNS = 4
NUM_CANDIDATES = 3
"""Candidates whose probabilities are shown, the most probable ones."""
COLOURS = {"right": "yellowgreen", "written on the image": "salmon", "other": "lightgray"}
WORD_WIDTH, LINE_WIDTH, CAPTION_WIDTH = 26, 34, 120
"""Letters of a candidate, of a line above an image, and of the caption."""


def plot_examples(examples: Sequence[Example], path: str | Path, *, title: str, patched: str, caption: str) -> None:
    """Plot images with the most probable candidates and their probabilities, zero-shot above patched.

    Args:
        examples: The images.
        path: The image file.
        title: What they are.
        patched: What the patched model is called.
        caption: How the images were chosen.
    """
    rows = -(-len(examples) // COLUMNS)
    figure = Figure(figsize=(2.1 * COLUMNS, 3.1 * rows + 1), dpi=100, layout="constrained")
    axes = figure.subplots(2 * rows, COLUMNS, squeeze=False, height_ratios=[1.6, 1] * rows)
    for place in axes.flat:
        place.set_axis_off()
    for position, example in enumerate(examples):
        row, column = divmod(position, COLUMNS)
        _draw_image(axes[2 * row, column], example)
        _draw_candidates(axes[2 * row + 1, column], example, patched)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", parse_math=False)
    figure.supxlabel(fill(caption, CAPTION_WIDTH), fontsize=7)
    names = [name for name in COLOURS if name != "written on the image" or examples[0].written is not None]
    handles = [Patch(color=COLOURS[name], label=name) for name in names]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False, fontsize=7)
    figure.savefig(path)


def _draw_image(axes: Axes, example: Example) -> None:
    """Draw an image, and above it what is asked, what is right and what is written."""
    axes.imshow(example.pixels)
    lines = wrap(example.question or "", LINE_WIDTH, max_lines=2, placeholder=" ...")
    lines.append(f"right: {_short(example.candidates[example.label])}")
    if example.written is not None:
        lines.append(f"written: {_short(example.candidates[example.written])}")
    axes.set_title("\n".join(lines), fontsize=7, parse_math=False)


def _draw_candidates(axes: Axes, example: Example, patched: str) -> None:
    """Draw the probabilities of both models, as bars with the candidates on them."""
    height = NUM_CANDIDATES + 1  # a line for the name of the model
    axes.set(xlim=(0, 1), ylim=(2 * height, 0))
    for top, name, said in ((0, "zero-shot", example.before), (height, patched, example.after)):
        axes.text(0, top + 0.5, name, fontsize=6, va="center", parse_math=False)
        for line, candidate in enumerate(_most_probable(said), top + 1):
            axes.barh(line + 0.5, said[candidate], height=0.9, color=COLOURS[_kind(example, candidate)])
            word = _short(example.candidates[candidate])
            axes.text(0.02, line + 0.5, word, fontsize=6, va="center", parse_math=False)
            axes.text(0.99, line + 0.5, f"{100 * said[candidate]:.0f} %", fontsize=6, va="center", ha="right")


def _most_probable(said: NDArray[np.float32]) -> list[int]:
    order: list[int] = np.argsort(-said, kind="stable").tolist()
    return order[:NUM_CANDIDATES]


def _kind(example: Example, candidate: int) -> str:
    if candidate == example.label:
        return "right"
    return "written on the image" if candidate == example.written else "other"


def _short(word: str) -> str:
    return shorten(word, WORD_WIDTH, placeholder="...") if " " in word else word[:WORD_WIDTH]
