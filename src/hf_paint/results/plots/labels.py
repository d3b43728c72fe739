"""Direct labels: texts beside the points they name, which overlap neither each other nor the edges of the axes.

Placing labels well is hard in general (Christensen, Marks & Shieber, 1995). Here, each label in turn takes the place
near its point that covers the least of what is drawn.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from hf_paint.results.plots.style import DPI, INK, MUTED, TEXT, Plot


DISTANCES = (4, 10, 18, 30, 46, 66, 90)
"""Pixels between the marker of a point and the nearest edge of its label."""
NUM_DIRECTIONS = 16
LEADER = 22
"""Distance in pixels from which a thin line joins a label with its point."""
GAP = 3
"""Pixels around a label that stay free of other labels."""
COST_OF_COVERING = 40
"""Distance in pixels that a label moves to cover one thing less."""
HALO: dict[str, object] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.6}
"""Background that keeps a label legible on top of lines."""
STEP = 4
"""Distance in pixels at which lines are sampled."""

Pair = tuple[float, float]
Line = tuple[Sequence[float], Sequence[float]]
"""x and y of a line's corners, in data coordinates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text for a point.

    Attributes:
        x, y: Point in data coordinates.
        text: The text.
        size: Font size in points.
        color: Colour of the text.
        weight: Weight of the font.
        radius: Pixels from the point to the edge of its marker.
        optional: Whether it may be left out if the places next to its point are taken.
    """

    x: float
    y: float
    text: str
    size: float = TEXT
    color: str = INK
    weight: str = "normal"
    radius: float = 0.0
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Box", gap: float = 0.0) -> bool:
        """Return whether two boxes are closer to each other than a gap."""
        across = self.left < other.right + gap and other.left < self.right + gap
        return across and self.bottom < other.top + gap and other.bottom < self.top + gap

    def within(self, other: "Box") -> bool:
        """Return whether this box is inside another one."""
        across = other.left <= self.left and self.right <= other.right
        return across and other.bottom <= self.bottom and self.top <= other.top

    def count(self, points: NDArray[np.float64]) -> int:
        """Return how many points, shape (num_points, 2), are in the box."""
        x, y = points.T
        return int(((self.left <= x) & (x <= self.right) & (self.bottom <= y) & (y <= self.top)).sum())


def place(
    size: Pair, point: Pair, frame: Box, taken: Sequence[Box], drawn: NDArray[np.float64], distances: Sequence[float]
) -> Box | None:
    """Return the best box for a label, or None if there is none.

    Args:
        size: Width and height of the label.
        point: Point that it names.
        frame: Box that contains all labels.
        taken: Boxes of labels and markers that it must not overlap.
        drawn: Points on what is drawn, which it should not cover, shape (num_points, 2).
        distances: Distances from the point to try, in ascending order.
    """
    best, least = None, math.inf
    for distance, box in _places(size, point, distances):
        if distance >= least:
            break
        cost = distance + COST_OF_COVERING * box.count(drawn)
        if cost < least and box.within(frame) and not any(box.overlaps(other, GAP) for other in taken):
            best, least = box, cost
    return best


def _places(size: Pair, point: Pair, distances: Sequence[float]) -> Iterator[tuple[float, Box]]:
    """Yield distances and boxes around a point, near before far and, of equals, right and above before left."""
    width, height = size
    turns = [turn for number in range(NUM_DIRECTIONS // 2) for turn in (1 + number, -number)]
    for distance in distances:
        for turn in turns:
            angle = 2 * math.pi * turn / NUM_DIRECTIONS
            x = point[0] + math.cos(angle) * (distance + width / 2)
            y = point[1] + math.sin(angle) * (distance + height / 2)
            yield distance, Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def add_labels(plot: Plot, axes: Axes, labels: Sequence[Label], *, lines: Iterable[Line] = ()) -> list[Label]:
    """Write labels beside their points, in the order of their importance, and return those that found no place.

    Call this last, when the limits of the axes are final.

    Args:
        plot: Plot.
        axes: Axes of the plot.
        labels: Labels, the most important ones first.
        lines: Lines that labels should not cover: x and y in data coordinates.
    """
    drawn = _sampled(axes, lines)
    area = axes.get_window_extent()
    frame = Box(area.x0 + GAP, area.y0 + GAP, plot.bbox.x1 - GAP, area.y1)
    points: list[Pair] = [tuple(axes.transData.transform((label.x, label.y)).tolist()) for label in labels]
    taken = [_around(point, label.radius) for label, point in zip(labels, points, strict=True)]
    left_out = []
    for label, point in zip(labels, points, strict=True):
        width, height = (DPI * inches for inches in plot.size_of(label.text, label.size, weight=label.weight))
        distances = [label.radius + distance for distance in (DISTANCES[:1] if label.optional else DISTANCES)]
        box = place((width, height), point, frame, taken, drawn, distances)
        if box is None or (label.optional and box.count(drawn)):
            left_out.append(label)
            continue
        taken.append(box)
        _write(axes, label, point, box)
    return left_out


def _around(point: Pair, radius: float) -> Box:
    """Return the square around a marker, which labels do not touch."""
    inner = max(0.0, radius - GAP)
    return Box(point[0] - inner, point[1] - inner, point[0] + inner, point[1] + inner)


def _sampled(axes: Axes, lines: Iterable[Line]) -> NDArray[np.float64]:
    """Return points on lines at equal distances, in pixels, shape (num_points, 2)."""
    sampled = [np.empty((0, 2))]
    for x, y in lines:
        corners = axes.transData.transform(np.column_stack([x, y]))
        sampled.append(corners)
        for start, end in pairwise(corners):
            number = 2 + int(np.hypot(*(end - start)) / STEP)
            sampled.append(np.linspace(start, end, number))
    return np.concatenate(sampled)


def _write(axes: Axes, label: Label, point: Pair, box: Box) -> None:
    invert = axes.transData.inverted()
    middle = invert.transform(((box.left + box.right) / 2, (box.bottom + box.top) / 2))
    text = axes.text(float(middle[0]), float(middle[1]), label.text, ha="center", va="center", zorder=6, bbox=HALO)
    text.set(size=label.size, color=label.color, weight=label.weight)
    nearest = (min(max(point[0], box.left), box.right), min(max(point[1], box.bottom), box.top))
    if math.dist(point, nearest) > LEADER:
        ends = invert.transform((point, nearest))
        axes.plot(*ends.T, color=MUTED, linewidth=0.6, zorder=1.5, label="_leader")
