"""Accuracy against alpha, with one line per task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from hf_paint.results.alphas import Alpha
from hf_paint.results.plots.frame import HEIGHT, framed, show_percent
from hf_paint.results.plots.labels import Label, add_labels
from hf_paint.results.plots.margins import label_ends, most_labels, room_for
from hf_paint.results.plots.positions import Positions
from hf_paint.results.plots.shown import Shown
from hf_paint.results.plots.style import BAND, COLOURS, DASHED, GREEN, MUTED, Plot, styled
from hf_paint.results.proportions import accuracy_interval
from hf_paint.results.records import ROLES, Result, Role
from hf_paint.results.tables import Interval


DASHES: dict[Role, str] = {"patching": "-", "supported": "-", "transfer": "-.", "shift": ":"}
MARKERS: dict[Role, str] = {"patching": "o", "supported": "s", "transfer": "^", "shift": "D"}
MOST_NAMED = 2 * len(COLOURS)
"""Maximum number of lines in colour, with a name."""
MOST_MARKERS = 30
"""Maximum number of points on a line that are marked."""
MOST_DASHED = 3
"""Maximum number of supported tasks with a dashed line."""
PALE = "#b5b5b5"
MOST_ROOM = 2.2
"""Maximum width in inches of the margin with the names of the tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A task and its records, in the order of the alphas; None where it was not evaluated."""

    role: Role
    task: str
    results: Sequence[Result | None]

    @property
    def name(self) -> str:
        """The task and its role."""
        return f"{self.task} ({self.role})"

    def change(self, place: int) -> float:
        """Return by how much the accuracy differs between the first record and that at a place."""
        ends = [result for result in (self.results[0], self.results[place]) if result is not None]
        return abs(ends[-1].accuracy - ends[0].accuracy) if ends else 0.0

    def points(self, positions: Positions) -> tuple[list[float], list[float]]:
        """Return the positions and accuracies in percent, where it was evaluated."""
        known = [(x, result) for x, result in zip(positions.values, self.results, strict=True) if result is not None]
        return [x for x, _ in known], [100 * result.accuracy for _, result in known]


def draw_accuracy(shown: Shown) -> Plot:
    """Draw accuracy against alpha with one line per task, 95 % intervals as bands, and the chosen alpha.

    After sequential patching, accuracy is drawn against the steps; of a search, the points are in its order. If there
    are more tasks than names that fit, those that change most are named, and the others are grey.
    """
    measured = {result.alpha for result in shown.records}
    alphas = [alpha for alpha in shown.curve.alphas if alpha in measured]
    lines = [*_lines(shown, alphas)]
    named = _named(lines, alphas.index(shown.place) if shown.place in alphas else -1)
    positions = Positions.of(alphas, end=shown.end)
    notes = [*_notes(lines, named, joined=positions.connected and len(alphas) > 1), *shown.notes]
    with styled([*shown.texts, shown.finding]):
        room = room_for(Plot(HEIGHT), [line.name for line in named], MOST_ROOM)
        plot, axes = framed(shown.finding, notes, right=room)
        show_percent(axes.yaxis, [*_reach(named, bounds=True), *_reach(lines, bounds=False)], room=0.04)
        positions.apply(axes)
        axes.set_ylabel(f"accuracy, % ({shown.split})")
        for line in lines:
            if line not in named:
                _draw(axes, line, positions, None)
        ends = [_draw(axes, line, positions, index) for index, line in enumerate(named)]
        _draw_zero_shot(axes, lines)
        if shown.selected in alphas:
            drawn = [line.points(positions) for line in lines]
            _mark_chosen(plot, axes, shown, positions.values[alphas.index(shown.selected)], drawn)
        label_ends(plot, axes, ends, room=room)
    return plot


def _lines(shown: Shown, alphas: Sequence[Alpha]) -> Iterator[Line]:
    for role in ROLES:
        for task in shown.curve.tasks.get(role, []):
            results = [shown.curve.get(alpha, role, task, shown.split) for alpha in alphas]
            if any(results):
                yield Line(role=role, task=task, results=results)


def _named(lines: Sequence[Line], place: int) -> list[Line]:
    """Return the lines with a name: all if they fit, or else the patching tasks and then those that change most."""
    by_change = sorted(lines, key=lambda line: (line.role != "patching", -line.change(place)))
    chosen = by_change[: min(MOST_NAMED, most_labels(HEIGHT))]
    return [line for line in lines if line in chosen]


def _notes(lines: Sequence[Line], named: Sequence[Line], *, joined: bool) -> Iterator[str]:
    if any(map(_interval, named[0].results)):
        yield f"{'Bands' if joined else 'Bars'}: 95 % intervals."
    if _zero_shot(lines):
        yield "Dashed: supported accuracy of the zero-shot model."
    if others := len(lines) - len(named):
        yield f"Grey: {others} tasks that change less."


def _reach(lines: Sequence[Line], *, bounds: bool) -> Iterator[float]:
    """Yield the accuracies of lines in percent, and the ends of their intervals."""
    for result in (result for line in lines for result in line.results if result is not None):
        yield 100 * result.accuracy
        yield from (_interval(result) or ()) if bounds else ()


def _interval(result: Result | None) -> Interval | None:
    """Return the 95 % interval of an accuracy, in percent."""
    bounds = None if result is None else accuracy_interval([result])
    return None if bounds is None else (100 * bounds[0], 100 * bounds[1])


def _draw(axes: Axes, line: Line, positions: Positions, index: int | None) -> Label:
    """Draw a task, in thin grey if it has no index among the named ones, and return its label."""
    color = PALE if index is None else COLOURS[index % len(COLOURS)]
    known = [(x, result) for x, result in zip(positions.values, line.results, strict=True) if result is not None]
    x, y = [place for place, _ in known], [100 * result.accuracy for _, result in known]
    joined = positions.connected and len(known) > 1
    if joined:
        width = 0.8 if index is None else 2.2 if line.role == "patching" else 1.4
        axes.plot(
            x, y, color=color, linestyle=DASHES[line.role], linewidth=width, zorder=1.5 if index is None else 2.5
        )
    if not joined or (index is not None and len(known) <= MOST_MARKERS):
        faces = [color if result.exact else "white" for _, result in known]
        axes.scatter(x, y, s=16, marker=MARKERS[line.role], facecolors=faces, edgecolors=color, zorder=3)
    if index is not None:
        _draw_intervals(axes, [(place, _interval(result)) for place, result in known], color, joined=joined)
    return Label(x=x[-1], y=y[-1], text=line.name, color=color)


def _draw_intervals(axes: Axes, bounds: Sequence[tuple[float, Interval | None]], color: str, *, joined: bool) -> None:
    """Draw 95 % intervals: as a band along a line, or as a bar for each point that stands by itself."""
    x = [place for place, ends in bounds if ends is not None]
    low, high = ([ends[side] for _, ends in bounds if ends is not None] for side in (0, 1))
    if joined:
        axes.fill_between(x, low, high, color=color, alpha=BAND, linewidth=0, zorder=1)
    else:
        axes.vlines(x, low, high, color=color, alpha=0.5, linewidth=1.2, zorder=1)


def _mark_chosen(
    plot: Plot, axes: Axes, shown: Shown, x: float, drawn: Sequence[tuple[Sequence[float], Sequence[float]]]
) -> None:
    """Draw a vertical line at the chosen alpha, with a label that covers as little as possible."""
    axes.axvline(x, color=GREEN, linewidth=1.6, zorder=1.2)
    bottom, top = axes.get_ylim()
    text = "chosen" if shown.selected is None else shown.mark_of(shown.selected)
    add_labels(plot, axes, [Label(x=x, y=bottom + 0.05 * (top - bottom), text=text, radius=2)], lines=drawn)


def _draw_zero_shot(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw a dashed line at the zero-shot accuracy of each supported task, unless there are too many."""
    for accuracy in _zero_shot(lines):
        axes.axhline(accuracy, color=MUTED, linestyle=DASHED, linewidth=0.9, zorder=1)


def _zero_shot(lines: Sequence[Line]) -> list[float]:
    before = [line.results[0] for line in lines if line.role == "supported"]
    known = [100 * result.accuracy for result in before if result is not None and result.alpha == 0]
    return known if len(known) <= MOST_DASHED else []
