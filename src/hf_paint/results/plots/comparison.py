"""Plots of several runs beside each other: their models, their trade-offs, and how they changed the weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from hf_paint.results.alphas import Alpha
from hf_paint.results.plots.frame import HEIGHT, framed, show_percent
from hf_paint.results.plots.labels import Label
from hf_paint.results.plots.margins import label_ends, most_labels, room_for
from hf_paint.results.plots.style import BLUE, COLOURS, INK, MUTED, SMALL, WIDTH, Plot, styled
from hf_paint.results.plots.texts import Face
from hf_paint.results.proportions import accuracy_interval
from hf_paint.results.tables import percent
from hf_paint.weights.changes import ALL, WeightChanges


if TYPE_CHECKING:
    from hf_paint.results.compared_models import ComparedModel
    from hf_paint.results.runs import Run

MOST_COLUMNS = 5
"""Maximum number of panels: tasks and means if they fit, and else the means alone."""
ROW = 0.26
"""Height of a row in inches."""
MOST_ROOM = 2.4
"""Maximum width of the names of the models, in inches."""
SPACE = 0.18
"""Inches between two panels."""
STYLES = ("-", "--", "-.", ":")
"""Styles of lines, for more lines than colours."""

Columns = Mapping[str, Sequence[str]]
Point = tuple[Alpha, float, float]
"""An alpha with its mean supported and its mean patching accuracy."""


def draw_methods(methods: Sequence["ComparedModel"], columns: Columns, split: str) -> Plot:
    """Draw the accuracy of every model, with one row per model and one panel per task and mean.

    Args:
        methods: Models to compare.
        columns: Title of a panel -> tasks to average over; those of more than one task have precedence.
        split: Split to show accuracies on.
    """
    means = {title: tasks for title, tasks in columns.items() if title.startswith("mean ")}
    shown = columns if len(columns) <= MOST_COLUMNS else means
    several = len({method.base for method in methods}) > 1
    names = [f"{method.base}: {method.name}" if several else method.name for method in methods]
    title = _best(methods, names, means, split)
    with styled([title, *names, *columns]):
        face = Face(Plot(1.0))
        left = 0.25 + min(MOST_ROOM, max(map(face.width, names)))
        notes = [f"Accuracy in percent ({split}). Bars: 95 % intervals. Filled: the best of a panel."]
        plot, first = framed(title, notes, height=0.35 + ROW * len(methods), left=left, below=0.45)
        for index, (column, tasks) in enumerate(shown.items()):
            axes = _panel(plot, first, index, len(shown))
            _draw_column(axes, methods, tasks)
            width = axes.get_window_extent().width / plot.dpi
            axes.set_title(Face(plot, SMALL).shortened(column, width), size=SMALL, color=INK, pad=3)
            labels = [face.shortened(name, MOST_ROOM) for name in names] if index == 0 else [""] * len(names)
            axes.set_yticks(range(len(methods)), labels)
            axes.set_ylim(len(methods) - 0.4, -0.6)
        first.remove()
    return plot


def _panel(plot: Plot, area: Axes, index: int, number: int) -> Axes:
    """Return one of several axes that share the place of other axes."""
    left, bottom, width, height = area.get_position().bounds
    space = SPACE / WIDTH
    own = (width - space * (number - 1)) / number
    title = 0.25 / float(plot.get_size_inches()[1])
    return plot.add_axes((left + index * (own + space), bottom, own, height - title))


def _draw_column(axes: Axes, methods: Sequence["ComparedModel"], tasks: Sequence[str]) -> None:
    means = [method.mean(tasks) for method in methods]
    known = {row: 100 * float(mean) for row, mean in enumerate(means) if mean is not None}
    reach = [*known.values()]
    for row, value in known.items():
        bounds = accuracy_interval([methods[row].results[task] for task in tasks])
        if bounds is not None:
            reach += [100 * bound for bound in bounds]
            axes.hlines([row], 100 * bounds[0], 100 * bounds[1], color=MUTED, linewidth=1.2, zorder=2)
        face = BLUE if value == max(known.values()) else "white"
        axes.scatter([value], [row], s=30, facecolors=face, edgecolors=BLUE, linewidths=1.4, zorder=3)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=SMALL)
    show_percent(axes.xaxis, reach or [0.0, 100.0], room=0.12, most_ticks=3)


def _best(methods: Sequence["ComparedModel"], names: Sequence[str], means: Columns, split: str) -> str:
    """Return which model is best on average over patching and supported tasks, without the specialised models."""
    sides = [means[title] for title in ("mean patching", "mean supported") if title in means]
    overall = {}
    for method, name in zip(methods, names, strict=True):
        values = [method.mean(tasks) for tasks in sides]
        known = [value for value in values if value is not None]
        if known and len(known) == len(values) and not method.sources:
            overall[name] = sum(known) / len(known)
    if not overall:
        return f"Accuracy on {split} images"
    what = "mean of patching and supported accuracy" if len(sides) > 1 else "patching accuracy"
    best = max(overall, key=lambda name: overall[name])
    return f"{best} has the highest {what} on {split} images, {percent(overall[best], digits=1)} %"


def draw_trade_offs(runs: Sequence["Run"], split: str) -> Plot | None:
    """Draw patching accuracy against supported accuracy, with one line per run (PAINT, Figure 1).

    Accuracies are averaged over the tasks of each run. Return None if no run has tasks in both roles.
    """
    curves = {run: run.trade_off(split) for run in runs if run.trade_off(split)}
    if not curves:
        return None
    several = len({run.base for run in runs}) > 1
    names = {run: f"{run.base}: {run.label}" if several else run.label for run in curves}
    title = f"Patching against supported accuracy of {len(curves)} run{'s' if len(curves) > 1 else ''}"
    with styled([title, *names.values()]):
        named = list(curves)[: most_labels(HEIGHT)]
        room = room_for(Plot(HEIGHT), [names[run] for run in named], MOST_ROOM)
        notes = ["One point per alpha. Star: zero-shot; ring: chosen alpha."]
        notes += [f"{len(curves) - len(named)} runs have no name, for lack of room."] * (len(curves) > len(named))
        plot, axes = framed(title, notes, right=room)
        for axis, side in ((axes.xaxis, 0), (axes.yaxis, 1)):
            show_percent(axis, [100 * sides[side] for points in curves.values() for _, *sides in points])
        axes.set_xlabel(f"mean supported accuracy, % ({split})")
        axes.set_ylabel(f"mean patching accuracy, % ({split})")
        ends = [_draw_run(axes, run, curves[run], names[run], index) for index, run in enumerate(curves)]
        label_ends(plot, axes, ends[: len(named)], room=room)
    return plot


def _draw_run(axes: Axes, run: "Run", points: Sequence[Point], name: str, index: int) -> Label:
    """Draw the points of a run, joined unless they are combinations of a search, and return its label."""
    color, dashes = COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]
    places = [(100 * supported, 100 * patching) for _, supported, patching in points]
    x, y = ([place[side] for place in places] for side in (0, 1))
    [line] = axes.plot(x, y, linestyle="" if run.strategy == "parallel" else dashes)
    line.set(color=color, marker=".", linewidth=1.4, zorder=2)
    for (alpha, *_), place in zip(points, places, strict=True):
        if alpha == 0.0:
            axes.scatter(*place, marker="*", s=140, color=color, zorder=4)
        if alpha == run.chosen:
            axes.scatter(*place, s=110, facecolors="none", edgecolors=color, linewidths=2, zorder=4)
    end = max(places)
    return Label(x=end[0], y=end[1], text=name, color=color)


def draw_cosines(changes: Mapping[str, WeightChanges]) -> Plot | None:
    """Draw the cosine similarity of theta_0 and theta_1 by layer, from the embeddings (0) to the projection (1).

    Return None if no weights were compared.
    """
    lines = [*_cosines(changes)]
    if not lines:
        return None
    nearest = min(lines, key=lambda line: min(line.cosines))
    title = f"{nearest.name} turns a layer most: cosine {min(nearest.cosines):.3f} with theta_0"
    with styled([title, *(line.name for line in lines)]):
        named = lines[: most_labels(HEIGHT)]
        room = room_for(Plot(HEIGHT), [line.name for line in named], MOST_ROOM)
        plot, axes = framed(title, right=room)
        ends = []
        for index, line in enumerate(lines):
            color, dashes = COLOURS[index % len(COLOURS)], STYLES[index // len(COLOURS) % len(STYLES)]
            axes.plot(line.depths, line.cosines, color=color, linestyle=dashes, marker=".", linewidth=1.4)
            ends.append(Label(x=line.depths[-1], y=line.cosines[-1], text=line.name, color=color))
        axes.set_xlabel("depth (embeddings 0, encoder layers between, projection 1)")
        axes.set_ylabel("cosine(theta_0, theta_1)")
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # final, for the labels
        label_ends(plot, axes, ends[: len(named)], room=room)
    return plot


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """Cosine similarities of one model with its base, by depth."""

    name: str
    depths: Sequence[float]
    cosines: Sequence[float]


def _cosines(changes: Mapping[str, WeightChanges]) -> Iterator[_Line]:
    for base, measured in changes.items():
        layers = [layer for layer in measured.products if layer != ALL]
        depths = [index / max(1, len(layers) - 1) for index in range(len(layers))]
        for model in measured.models:
            cosines = [measured.cosine_to_base(model, layer) for layer in layers]
            yield _Line(name=model if len(changes) == 1 else f"{base}: {model}", depths=depths, cosines=cosines)
