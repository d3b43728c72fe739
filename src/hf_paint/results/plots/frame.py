"""The frame of a plot: a title that says what was found, notes below, and axes in between."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.ticker import MaxNLocator

from hf_paint.results.plots.style import DPI, MUTED, SMALL, TITLE, WIDTH, Plot
from hf_paint.results.plots.texts import Face


BOLD = "bold"
HEIGHT = 3.3
"""Height of axes in inches."""
GAP = 0.15
"""Inches between the title and the axes."""
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
    below: float = 0.62,
) -> tuple[Plot, Axes]:
    """Return a plot with a title and notes, and its axes in between.

    Args:
        title: What was found; it is wrapped.
        notes: What a reader must know to read the plot, below the axes.
        height: Height of the axes in inches.
        left: Inches to the left of the axes, for tick labels and a label.
        right: Inches to the right of the axes.
        below: Inches between the axes and the notes, for tick labels and a label.
    """
    plot = Plot(height)
    width = WIDTH - 2 * MARGIN
    above, under = Face(plot, TITLE, BOLD).wrapped(title, width), Face(plot, SMALL).wrapped(" ".join(notes), width)
    bottom = MARGIN + len(under) * LINE * SMALL / 72 + below
    top = bottom + height
    full = top + GAP + len(above) * LINE * TITLE / 72 + MARGIN
    plot.set_size_inches(WIDTH, full)
    for number, line in enumerate(above):
        place = top + GAP + (len(above) - number - 0.8) * LINE * TITLE / 72
        plot.text(MARGIN / WIDTH, place / full, line, size=TITLE, weight=BOLD)
    for number, line in enumerate(reversed(under)):
        place = MARGIN + (number + 0.2) * LINE * SMALL / 72
        plot.text(MARGIN / WIDTH, place / full, line, size=SMALL, color=MUTED)
    return plot, plot.add_axes((left / WIDTH, bottom / full, (WIDTH - left - right) / WIDTH, height / full))


def set_label(plot: Plot, axes: Axes, axis: Axis, labels: Sequence[str]) -> None:
    """Label an axis with the first of several texts that fits beside it; the last one is cut if it does not."""
    area, face = axes.get_window_extent(), Face(plot)
    length = (area.width if isinstance(axis, XAxis) else area.height) / DPI
    fitting = [label for label in labels if face.width(label) <= length]
    axis.set_label_text(fitting[0] if fitting else face.shortened(labels[-1], length))


def show_percent(axis: Axis, values: Sequence[float], *, room: float = 0.1, most_ticks: int = 7) -> None:
    """Set the limits of an axis around accuracies in percent, with some room for labels but no ticks beyond 100."""
    span, middle = max(max(values) - min(values), LEAST_SPAN), (max(values) + min(values)) / 2
    low, high = (middle + side * (0.5 + room) * span for side in (-1, 1))
    ticks = [float(tick) for tick in MaxNLocator(nbins=most_ticks, steps=[1, 2, 5, 10]).tick_values(low, high)]
    axis.set_ticks([tick for tick in ticks if low <= tick <= high and 0 <= tick <= 100])
    axis.set_view_interval(low, high, ignore=True)
    axis.axes.autoscale(enable=False, axis="x" if isinstance(axis, XAxis) else "y")
