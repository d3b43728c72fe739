"""Accuracy under distribution shift against accuracy on the reference, on a logit scale (WiSE-FT, Figure 1)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis

from hf_paint.results.alphas import Alpha, alpha_phrase
from hf_paint.results.change_text import signed_interval, signed_points
from hf_paint.results.plots.frame import framed, set_label
from hf_paint.results.plots.labels import Label, add_labels
from hf_paint.results.plots.shown import MOST_NAMES, Shown
from hf_paint.results.plots.style import DASHED, INK, MUTED, SMALL, Plot, styled
from hf_paint.results.plots.track import Track
from hf_paint.results.plots.trade_off import ENSEMBLE_NAME
from hf_paint.results.proportions import accuracy_interval
from hf_paint.results.records import ROLES, Result
from hf_paint.results.robustness import Baseline, logit
from hf_paint.results.robustness_table import RobustnessTable, robustness_table
from hf_paint.results.tables import Interval


PERCENT = (0.1, 0.5, 1, 2, 5, 10, *range(15, 90, 5), 90, 92, 94, 95, 96, 97, 98, 98.5, 99, 99.5, 99.9)
"""Ticks for logit-scaled axes, in percent."""
LIMITS = (0.001, 0.999)
"""Accuracies are drawn within these limits, because the logits of 0 and 1 are infinite."""
ROOM = 0.1
"""Room around the points, as a share of what they span."""
LEAST_SPAN = 0.2
"""Least span of an axis in logits."""
LEAST_DISTANCE = 30
"""Pixels between the labels of two ticks."""


def draw_scatter(shown: Shown, table: RobustnessTable | None = None, ensemble: RobustnessTable | None = None) -> Plot:
    """Draw accuracy under shift against reference accuracy, both on a logit scale (WiSE-FT, Figure 1).

    Args:
        shown: What is shown of the run.
        table: Robustness at every alpha; by default, it is computed without a baseline.
        ensemble: Robustness of the output-space ensemble, to draw for comparison.

    Raises:
        InputError: If the curve has no shift tasks.
    """
    table = robustness_table(shown.curve) if table is None else table
    if ensemble is None and shown.ensemble is not None:
        ensemble = robustness_table(shown.ensemble, baseline=table.baseline)
    title = _finding(shown, table)
    track = _track(shown, table)
    other = None if ensemble is None else _track(shown, ensemble)
    tracks = [track] if other is None else [track, other]
    with styled([*shown.texts, title]):
        plot, axes = framed(title, _notes(table, has_band=any(track.y_bounds)))
        for axis, side in ((axes.xaxis, 0), (axes.yaxis, 1)):
            _show_logits(axes, axis, [value for drawn in tracks for value in drawn.reach()[side]])
        set_label(plot, axes, axes.xaxis, _axis_labels("accuracy on", table.reference_tasks, table.reference_split))
        set_label(plot, axes, axes.yaxis, _axis_labels("accuracy under shift:", table.shift_tasks, "test"))
        labels, lines = track.labels(shown), [line for drawn in tracks for line in drawn.lines()]
        track.draw(axes, shown)
        if other is not None:
            labels.append(other.draw_for_comparison(axes, ENSEMBLE_NAME))
        if table.baseline is not None:
            line = _draw_baseline(axes, table.baseline)
            lines.append(line)
            labels.append(Label(x=line[0][1], y=line[1][1], text="baseline", size=SMALL, color=MUTED))
        add_labels(plot, axes, [*labels, *track.alpha_labels(shown)], lines=lines)
    return plot


def _finding(shown: Shown, table: RobustnessTable) -> str:
    """Return the title: relative robustness at the chosen alpha, and effective robustness with a baseline."""
    row = next((row for row in table.rows if row.alpha == shown.place), None)
    shifts = table.shift_tasks[0] if len(table.shift_tasks) == 1 else f"{len(table.shift_tasks)} distribution shifts"
    if row is None or shown.place is None:
        return f"Accuracy on {shifts}"
    parts = [f"relative robustness {_with_interval(row.relative, row.relative_interval)}"]
    if row.effective is not None:
        parts.append(f"effective robustness {_with_interval(row.effective, row.effective_interval)}")
    return f"{shifts}: {', '.join(parts)} points on test images, at {alpha_phrase(shown.place)}"


def _with_interval(value: float, bounds: Interval | None) -> str:
    return signed_points(value) + ("" if bounds is None else f" ({signed_interval(bounds)})")


def _notes(table: RobustnessTable, *, has_band: bool) -> list[str]:
    notes = ["Both axes are on a logit scale."]
    if has_band:
        notes.append("Band: 95 % intervals of both accuracies, each on its own.")
    if table.baseline is not None:
        notes.append("Baseline: models trained on the reference alone; above it, robustness is effective.")
    if not all(row.exact for row in table.rows):
        notes.append("Hollow points: inferred in part (adaptive sweep).")
    return notes


def _track(shown: Shown, table: RobustnessTable) -> Track:
    """Return reference accuracies and accuracies under shift, in logits."""
    bounds: list[list[Interval | None]] = [
        [_in_logits(accuracy_interval(_records(shown, row.alpha, tasks, split))) for row in table.rows]
        for tasks, split in ((table.reference_tasks, table.reference_split), (table.shift_tasks, "test"))
    ]
    return Track(
        alphas=[row.alpha for row in table.rows],
        x=[_logit(row.reference) for row in table.rows],
        y=[_logit(row.shift) for row in table.rows],
        x_bounds=bounds[0],
        y_bounds=bounds[1],
        exact=[row.exact for row in table.rows],
    )


def _records(shown: Shown, alpha: Alpha, tasks: Sequence[str], split: str) -> list[Result]:
    """Return the record of each task in any role."""
    found = [[shown.curve.get(alpha, role, task, split) for role in ROLES] for task in tasks]
    results = [next(filter(None, candidates), None) for candidates in found]
    return [result for result in results if result is not None]


def _in_logits(bounds: Interval | None) -> Interval | None:
    return None if bounds is None else (_logit(bounds[0]), _logit(bounds[1]))


def _logit(accuracy: float) -> float:
    return float(logit(np.clip(accuracy, *LIMITS)))


def _axis_labels(start: str, tasks: Sequence[str], split: str) -> list[str]:
    mean, number = ("mean " if len(tasks) > 1 else ""), f"{len(tasks)} task{'s' if len(tasks) > 1 else ''}"
    named = [", ".join(tasks), number] if len(tasks) <= MOST_NAMES else [number]
    return [f"{mean}{start} {names}, % ({split})" for names in named]


def _show_logits(axes: Axes, axis: Axis, values: Sequence[float]) -> None:
    """Set the limits of an axis around logits, and label it with accuracies in percent that are not too close."""
    span, middle = max(max(values) - min(values), LEAST_SPAN), (max(values) + min(values)) / 2
    low, high = (middle + side * (0.5 + ROOM) * span for side in (-1, 1))
    area = axes.get_window_extent()
    distance = LEAST_DISTANCE / (area.width if isinstance(axis, XAxis) else area.height) * (high - low)
    ticks: list[tuple[float, str]] = []
    for share in PERCENT:
        place = _logit(share / 100)
        if low <= place <= high and (not ticks or place - ticks[-1][0] >= distance):
            ticks.append((place, f"{share:g}"))
    axis.set_ticks([place for place, _ in ticks], labels=[label for _, label in ticks])
    axis.set_view_interval(low, high, ignore=True)
    axes.autoscale(enable=False, axis="x" if isinstance(axis, XAxis) else "y")


def _draw_baseline(axes: Axes, baseline: Baseline) -> tuple[list[float], list[float]]:
    """Draw the baseline across the axes, and return its ends within them."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    ends = sorted(np.clip([(y - baseline.intercept) / baseline.slope for y in (bottom, top)], left, right).tolist())
    line = ends, [baseline.intercept + baseline.slope * x for x in ends]
    axes.plot(*line, color=INK, linestyle=DASHED, linewidth=1.1, zorder=1)
    return line
