"""The frame of a plot: a title that says what was found, notes below, and axes in between."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator

from hf_paint.results.plots.style import HEIGHT, INK, MUTED, SMALL, TITLE, WIDTH, Plot
from hf_paint.results.plots.texts import Face


BOLD = "bold"
MARGIN = 0.12
"""Inches between the text and the edges of a plot."""
LINE = 1.35
"""Height of a line, as a multiple of the font size."""
LEAST_SPAN = 2.0
"""Least number of points that an axis shows, so that a difference of one image does not look like a collapse."""


def framed(
    title: str,
    notes: Sequence[str] = (),
    *,
    height: float = HEIGHT,
    left: float = 0.75,
    right: float = 0.2,
    below: float = 0.6,
) -> tuple[Plot, Axes]:
    """Return a plot with a title and notes, and its axes in between.

    Args:
        title: What was found; it is wrapped.
        notes: What a reader must know to read the plot, below the axes.
        height: Height in inches.
        left: Inches to the left of the axes, for tick labels and a label.
        right: Inches to the right of the axes.
        below: Inches between the axes and the notes, for tick labels and a label.
    """
    plot = Plot(height)
    top = height - MARGIN
    for line in Face(plot, TITLE, BOLD).wrapped(title, WIDTH - 2 * MARGIN):
        top -= LINE * TITLE / 72
        _write(plot, line, top, size=TITLE, color=INK, weight=BOLD)
    bottom = MARGIN
    lines = [line for note in notes for line in Face(plot, SMALL).wrapped(note, WIDTH - 2 * MARGIN)]
    for line in reversed(lines):
        _write(plot, line, bottom, size=SMALL, color=MUTED)
        bottom += LINE * SMALL / 72
    top, bottom = top - 0.18, bottom + below
    sides = (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (top - bottom) / height)
    return plot, plot.add_axes(sides)


def _write(plot: Plot, line: str, bottom: float, *, size: float, color: str, weight: str = "normal") -> None:
    height = float(plot.get_size_inches()[1])
    plot.text(MARGIN / WIDTH, bottom / height, line, size=size, color=color, weight=weight, va="baseline")


def show_percent(axis: Axis, low: float, high: float, *, room: float = 0.1) -> None:
    """Set the limits of an axis around accuracies in percent, with some room for labels but no ticks beyond 100."""
    span = max(high - low, 2.0)
    middle = (low + high) / 2
    limits = middle - span / 2 - room * span, middle + span / 2 + room * span
    ticks = [float(tick) for tick in MaxNLocator(nbins=7, steps=[1, 2, 5, 10]).tick_values(*limits)]
    axis.set_ticks([tick for tick in ticks if limits[0] <= tick <= limits[1] and 0 <= tick <= 100])
    axis.set_view_interval(*limits, ignore=True)
