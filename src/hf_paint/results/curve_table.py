"""Build the table for an alpha curve."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from hf_paint.results.alphas import Alpha, in_order
from hf_paint.results.extra_metrics import EXTRA_METRICS, ExtraMetric, beside_accuracy
from hf_paint.results.records import ROLES, Result, Role
from hf_paint.results.tables import FINE_TUNED, Interval, alpha_label, bold, interval, marked, percent


if TYPE_CHECKING:
    from hf_paint.results.curve import AlphaCurve

Column = tuple[Role, str]
MOST_ROWS = 15
"""Tables of more alphas are shortened where people read them."""
AROUND = 3
"""Number of alphas that a shortened table shows on either side of the chosen one."""


def curve_rows(
    curve: "AlphaCurve",
    split: str,
    *,
    selected: Alpha | None = None,
    intervals: bool = False,
    fine_tuned_label: str = FINE_TUNED,
    shown: Collection[Alpha] | None = None,
) -> list[list[str]]:
    """Return a header and one row for each alpha with records on the split; see `AlphaCurve.to_markdown`.

    If `shown` is given, alphas that are not in it have no row.
    """
    columns: list[Column] = [(role, task) for role in ROLES for task in curve.tasks.get(role, [])]
    columns = [c for c in columns if any(curve.get(a, *c, split) for a in curve.alphas)]
    own = [metric for metric in EXTRA_METRICS if metric.has_column]
    extra = [(c, m) for m in own for c in columns if any(m.show(curve.get(a, *c, split)) for a in curve.alphas)]
    header = ["alpha", *(f"{task} ({role})" for role, task in columns)]
    rows = [header + [f"{task} {metric.label} ({role})" for (role, task), metric in extra]]
    for alpha in curve.alphas if shown is None else in_order(shown):
        results = [curve.get(alpha, *column, split) for column in columns]
        if not any(results):
            continue
        bounds = [_gain_interval(curve, result) if intervals else None for result in results]
        cells = [alpha_label(alpha, fine_tuned_label), *map(accuracy_cell, results, bounds)]
        cells += [extra_cell(curve.get(alpha, *column, split), metric) for column, metric in extra]
        rows.append(bold(cells) if alpha == selected else cells)
    return rows


def mean_rows(
    curve: "AlphaCurve",
    split: str,
    *,
    selected: Alpha | None = None,
    fine_tuned_label: str = FINE_TUNED,
    shown: Collection[Alpha] | None = None,
) -> list[list[str]]:
    """Return a shorter table than `curve_rows`, with the mean accuracy over the tasks in each role."""
    measured = {(result.role, result.task) for result in curve.results if result.split == split}
    counts = {role: len([name for name, _ in measured if name == role]) for role in ROLES}
    counts = {role: number for role, number in counts.items() if number}
    rows = [["alpha", *(role if number == 1 else f"{role} (mean of {number})" for role, number in counts.items())]]
    exact_alphas = set(curve.exact_alphas)
    for alpha in curve.points(split):
        if shown is not None and alpha not in shown:
            continue
        exact = alpha in exact_alphas
        means = [marked(percent(curve.mean_accuracy(alpha, role, split)), exact=exact) for role in counts]
        cells = [alpha_label(alpha, fine_tuned_label), *means]
        rows.append(bold(cells) if alpha == selected else cells)
    return rows


def nearby(alphas: Sequence[Alpha], selected: Alpha | None) -> list[Alpha]:
    """Return a few of many alphas: both ends and those around the chosen one or, without one, at equal distances.

    Example:
        >>> nearby([i / 100 for i in range(101)], 0.5)
        [0.0, 0.47, 0.48, 0.49, 0.5, 0.51, 0.52, 0.53, 1.0]
        >>> nearby([0.0, 0.5, 1.0], 0.5)
        [0.0, 0.5, 1.0]
    """
    last = len(alphas) - 1
    if last < MOST_ROWS:
        return list(alphas)
    if selected in alphas:
        place = alphas.index(selected)
        indices = {0, *range(max(0, place - AROUND), min(last, place + AROUND) + 1), last}
    else:
        indices = {round(last * step / (2 * AROUND + 2)) for step in range(2 * AROUND + 3)}
    return [alphas[index] for index in sorted(indices)]


def accuracy_cell(result: Result | None, bounds: Interval | None = None) -> str:
    """Format an accuracy in percent, followed by the interval of its gain and by other metrics if available."""
    if result is None:
        return ""
    gain = "" if bounds is None else f" ({interval(bounds)})"
    return f"{marked(percent(result.accuracy), exact=result.exact)}{gain}{beside_accuracy(result)}"


def extra_cell(result: Result | None, metric: ExtraMetric) -> str:
    """Format a metric that has its own column."""
    return marked(metric.show(result), exact=result is None or result.exact)


def _gain_interval(curve: "AlphaCurve", result: Result | None) -> Interval | None:
    if result is None or result.alpha == 0:
        return None
    gain = curve.gain(result)
    return None if gain is None else gain.interval
