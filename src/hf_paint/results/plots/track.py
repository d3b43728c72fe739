"""Points for the models of a run in a plane, e.g. patching against supported accuracy, and how they are drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from numpy.typing import NDArray

from hf_paint.results.alphas import Alpha, Coefficients, format_alpha
from hf_paint.results.plots.labels import Label
from hf_paint.results.plots.shown import Shown, is_search
from hf_paint.results.plots.style import BLUE, GREEN, INK, MUTED, PURPLE, SMALL, TEXT, VERMILLION
from hf_paint.results.tables import Interval


PALE_BLUE = "#d6e6f2"
"""Colour of the band: opaque, so that its pieces do not darken each other."""
MOST_ALPHAS = 11
"""Alphas that get a label of their own, if there is room; of more, every few."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """Points for the models of a run, in the units of a plot.

    Attributes:
        alphas: Alpha of each point.
        x: Horizontal positions.
        y: Vertical positions.
        x_bounds: 95 % interval of each x, or None where there is none.
        y_bounds: 95 % interval of each y, or None where there is none.
        exact: Whether each point was measured on all images.
    """

    alphas: Sequence[Alpha]
    x: Sequence[float]
    y: Sequence[float]
    x_bounds: Sequence[Interval | None]
    y_bounds: Sequence[Interval | None]
    exact: Sequence[bool]

    @property
    def connected(self) -> bool:
        """Whether neighbouring points may be joined by a line."""
        return not is_search(self.alphas)

    def draw(self, axes: Axes, shown: Shown) -> None:
        """Draw the band, the line, the points and their marks."""
        axes.add_collection(PolyCollection([*self.band()], color=PALE_BLUE, linewidth=0.5, zorder=0.8))
        if self.connected:
            axes.plot(self.x, self.y, color=BLUE, linewidth=1.6, zorder=2)
        size = 20 if len(self.alphas) <= 2 * MOST_ALPHAS else 7
        faces = [BLUE if exact else "white" for exact in self.exact]
        axes.scatter(self.x, self.y, s=size, facecolors=faces, edgecolors=BLUE, linewidths=1.2, zorder=3)
        for index in self._marked(shown):
            alpha, place = self.alphas[index], (self.x[index], self.y[index])
            if alpha == 0:
                axes.scatter(*place, marker="*", s=150, color=BLUE, zorder=4)
            elif alpha == 1:
                axes.scatter(*place, marker="D", s=42, color=VERMILLION, zorder=4)
            if alpha == shown.selected:
                axes.scatter(*place, s=150, facecolors="none", edgecolors=GREEN, linewidths=2.4, zorder=5)

    def draw_for_comparison(self, axes: Axes, name: str) -> Label:
        """Draw another method's points less prominently, and return the label that names it."""
        axes.plot(self.x, self.y, color=PURPLE, linewidth=1.2, linestyle=":", marker="s", markersize=3, zorder=1.8)
        middle = len(self.x) // 2
        return Label(x=self.x[middle], y=self.y[middle], text=name, size=SMALL)

    def lines(self) -> list[tuple[Sequence[float], Sequence[float]]]:
        """Return what labels should not cover."""
        pieces = [(self.x, self.y)] if self.connected else [([x], [y]) for x, y in zip(self.x, self.y, strict=True)]
        return [*pieces]

    def band(self) -> Iterator[NDArray[np.float64]]:
        """Yield the polygons that together are the band, each of shape (4, 2) in the units of the plot.

        Each point has a diamond whose corners are the ends of its intervals. Along a line, the band is what the
        diamond covers on its way from point to point.
        """
        rows = zip(self.x, self.y, self.x_bounds, self.y_bounds, strict=True)
        diamonds = [_diamond(*row) for row in rows]
        yield from (diamond for diamond in diamonds if diamond is not None)
        if not self.connected:
            return
        for first, second in pairwise(diamonds):
            if first is not None and second is not None:
                for corner in range(4):
                    after = (corner + 1) % 4
                    yield np.array([first[corner], first[after], second[after], second[corner]])

    def reach(self) -> tuple[list[float], list[float]]:
        """Return all x and y that a plot must show, including the ends of the intervals."""
        x, y = (
            [*values, *(end for ends in bounds if ends is not None for end in ends)]
            for values, bounds in ((self.x, self.x_bounds), (self.y, self.y_bounds))
        )
        return x, y

    def labels(self, shown: Shown) -> list[Label]:
        """Return the labels of the marked points."""
        return [self._label(index, shown.mark_of(self.alphas[index])) for index in self._marked(shown)]

    def alpha_labels(self, shown: Shown) -> list[Label]:
        """Return labels of some other points, for where there is room."""
        if not self.connected:
            return []
        marked, step = self._marked(shown), -(-len(self.alphas) // MOST_ALPHAS)
        numbers = {index: self.alphas[index] for index in range(0, len(self.alphas), step) if index not in marked}
        return [
            self._label(index, format_alpha(alpha), optional=True)
            for index, alpha in numbers.items()
            if not isinstance(alpha, Coefficients)
        ]

    def _marked(self, shown: Shown) -> list[int]:
        marks = dict.fromkeys([shown.selected, 0.0, 1.0])
        return [self.alphas.index(alpha) for alpha in marks if alpha is not None and alpha in self.alphas]

    def _label(self, index: int, text: str, *, optional: bool = False) -> Label:
        size, color, radius = (SMALL, MUTED, 4.0) if optional else (TEXT, INK, 10.0)
        x, y = self.x[index], self.y[index]
        return Label(x=x, y=y, text=text, size=size, color=color, radius=radius, optional=optional)


def _diamond(x: float, y: float, across: Interval | None, along: Interval | None) -> NDArray[np.float64] | None:
    """Return the right, upper, left and lower corner of the diamond for a point, shape (4, 2)."""
    if across is None or along is None:
        return None
    return np.array([(across[1], y), (x, along[1]), (across[0], y), (x, along[0])])
