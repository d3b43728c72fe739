"""The trade-off curve: patching accuracy against supported accuracy, one point per alpha (PAINT, Figure 1)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from matplotlib.axes import Axes

from hf_paint.results.alphas import Alpha
from hf_paint.results.plots.frame import framed, set_label, show_percent
from hf_paint.results.plots.labels import Label, Line, add_labels
from hf_paint.results.plots.positions import Positions
from hf_paint.results.plots.shown import Shown
from hf_paint.results.plots.style import DASHED, MUTED, SMALL, Plot, styled
from hf_paint.results.plots.track import Track
from hf_paint.results.records import Role
from hf_paint.results.tables import Interval


NO_TRADE_OFF = (
    "Dashed: no trade-off, i.e. the supported accuracy of the zero-shot model, and the best patching accuracy of all "
    "points."
)
ENSEMBLE_NAME = "output-space ensemble"
BAND_NOTE = "Band: 95 % intervals of both accuracies, each on its own."


def draw_curve(shown: Shown) -> Plot:
    """Draw patching accuracy against supported accuracy, with one point per alpha (PAINT, Figure 1).

    The dashed lines show what a model without any trade-off would reach: the supported accuracy of the zero-shot
    model, and the best patching accuracy. The band shows 95 % intervals of both accuracies. Without supported tasks,
    patching accuracy is drawn against alpha, and there is no trade-off to show.
    """
    track = trade_off(shown)
    other = None if shown.ensemble is None else trade_off(replace(shown, curve=shown.ensemble))
    has_supported = _has_supported(shown)
    notes = [NO_TRADE_OFF] * has_supported + shown.notes
    if any(track.y_bounds):
        notes.insert(0, BAND_NOTE if has_supported else "Band: 95 % intervals.")
    with styled([*shown.texts, shown.finding]):
        plot, axes = framed(shown.finding, notes)
        tracks = [track] if other is None else [track, other]
        labels, lines = track.labels(shown), [line for drawn in tracks for line in drawn.lines()]
        show_percent(axes.yaxis, [y for drawn in tracks for y in drawn.reach()[1]])
        set_label(plot, axes, axes.yaxis, shown.axis_labels("patching"))
        if has_supported:
            show_percent(axes.xaxis, [x for drawn in tracks for x in drawn.reach()[0]])
            set_label(plot, axes, axes.xaxis, shown.axis_labels("supported"))
            for line, label in _no_trade_off(axes, track):
                axes.plot(*line, color=MUTED, linestyle=DASHED, linewidth=1.1, zorder=1)
                lines.append(line)
                labels.append(label)
        else:
            Positions.of(track.alphas, end=shown.end).apply(axes)
        track.draw(axes, shown)
        if other is not None:
            labels.append(other.draw_for_comparison(axes, ENSEMBLE_NAME))
        add_labels(plot, axes, [*labels, *track.alpha_labels(shown)], lines=lines)
    return plot


def trade_off(shown: Shown) -> Track:
    """Return the mean patching and supported accuracies in percent, or alphas if there are no supported tasks."""
    alphas: Sequence[Alpha] = shown.alphas
    roles: tuple[Role, ...] = ("supported", "patching") if _has_supported(shown) else ("patching",)
    means = [[100 * float(shown.mean(alpha, role)) for alpha in alphas] for role in roles]
    bounds = [[_in_percent(shown.interval(alpha, role)) for alpha in alphas] for role in roles]
    if len(roles) == 1:
        positions = Positions.of(alphas, end=shown.end).values
        means.insert(0, [*positions])
        bounds.insert(0, [(x, x) for x in positions])
    results = [[r for role in roles for r in shown.results(alpha, role)] for alpha in alphas]
    exact = [all(result.exact for result in measured) for measured in results]
    return Track(alphas=alphas, x=means[0], y=means[1], x_bounds=bounds[0], y_bounds=bounds[1], exact=exact)


def _no_trade_off(axes: Axes, track: Track) -> Iterator[tuple[Line, Label]]:
    """Yield the lines of no trade-off, across the whole axes, with their labels."""
    (left, right), (bottom, top), best = axes.get_xlim(), axes.get_ylim(), max(track.y)
    yield ([left, right], [best, best]), _small(min(track.x), best, "best patching accuracy")
    if 0.0 in track.alphas:
        x, middle = track.x[track.alphas.index(0.0)], (best + min(track.y)) / 2
        yield ([x, x], [bottom, top]), _small(x, middle, "zero-shot supported accuracy")


def _small(x: float, y: float, text: str) -> Label:
    return Label(x=x, y=y, text=text, size=SMALL, color=MUTED)


def _has_supported(shown: Shown) -> bool:
    return shown.split in shown.curve.splits("supported")


def _in_percent(bounds: Interval | None) -> Interval | None:
    return None if bounds is None else (100 * bounds[0], 100 * bounds[1])
