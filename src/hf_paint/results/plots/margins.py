"""Labels in the margin beside the axes, at the height of what they name: for lines that end there."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from hf_paint.results.plots.labels import Label
from hf_paint.results.plots.style import DPI, INK, TEXT, Plot
from hf_paint.results.plots.texts import Face


ELBOW, START = 14, 18
"""Pixels from the axes to the end of a leader, and to its label."""


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move places on a line as little as possible, until all are at least a gap apart.

    With `z_i = y_i - i * gap` in the order of the places, this is isotonic regression within bounds; the formula is
    its min-max solution (Robertson, Wright & Dykstra, 1988, Section 1.4).

    Args:
        places: Where to be, in any order.
        gap: Distance to keep.
        low: Lowest place allowed.
        high: Highest place allowed. If not all fit, those at the top are beyond it.

    Example:
        >>> spread([0.5, 0.5, 3.0], 1.0, 0.0, 4.0)
        [0.0, 1.0, 3.0]
    """
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(places, dtype=np.float64)[order] - steps)])
    first, last = np.arange(len(places))[:, None], np.arange(len(places))[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.where(last >= first, (sums[last + 1] - sums[first]) / (last - first + 1), np.inf)
    spaced = [float(means[: i + 1, i:].min(axis=1).max()) for i in range(len(places))]
    bounded = np.clip(spaced, low, max(low, high - gap * (len(places) - 1))) + steps
    moved = np.empty(len(places))
    moved[order] = bounded
    values: list[float] = moved.tolist()
    return values


def label_ends(plot: Plot, axes: Axes, labels: Sequence[Label], *, room: float) -> None:
    """Write labels in the margin to the right of the axes, each as near to the height of its point as possible.

    Call this last, when the limits of the axes are final.

    Args:
        plot: Plot.
        axes: Axes of the plot.
        labels: Labels, at most `most_labels`.
        room: Width of the margin in inches.
    """
    area, transform = axes.get_window_extent(), axes.transData
    heights = [float(transform.transform((label.x, label.y))[1]) for label in labels]
    line = line_height()
    for label, height in zip(labels, spread(heights, line, area.y0 + line / 2, area.y1 - line / 2), strict=True):
        elbow, start = transform.inverted().transform(((area.x1 + ELBOW, height), (area.x1 + START, height)))
        ends = ((label.x, elbow[0]), (label.y, elbow[1]))
        axes.plot(*ends, color=label.color, linewidth=0.8, clip_on=False, zorder=1.5)
        text = Face(plot, label.size, label.weight).shortened(label.text, room - START / DPI - 0.1)
        written = axes.text(float(start[0]), float(start[1]), text, va="center_baseline", color=INK)
        written.set(size=label.size, weight=label.weight)


def room_for(plot: Plot, texts: Sequence[str], most: float) -> float:
    """Return the width in inches of a margin with these labels."""
    return START / DPI + 0.12 + min(max(map(Face(plot).width, texts)), most)


def most_labels(height: float) -> int:
    """Return how many labels fit beside axes of a height in inches."""
    return max(1, int(height * DPI / line_height()))


def line_height(size: float = TEXT) -> float:
    """Return the distance in pixels between labels above each other."""
    return 1.35 * size / 72 * DPI
