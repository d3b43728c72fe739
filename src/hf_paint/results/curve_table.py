"""Build the table for an alpha curve."""

from typing import TYPE_CHECKING

from hf_paint.results.alphas import Alpha
from hf_paint.results.records import ROLES, Result, Role
from hf_paint.results.tables import FINE_TUNED, Interval, alpha_label, bold, interval, marked, number, percent


if TYPE_CHECKING:
    from hf_paint.results.curve import AlphaCurve

Column = tuple[Role, str]


def curve_rows(
    curve: "AlphaCurve",
    split: str,
    *,
    selected: Alpha | None = None,
    intervals: bool = False,
    fine_tuned_label: str = FINE_TUNED,
) -> list[list[str]]:
    """Return a header and one row for each alpha with records on the split; see `AlphaCurve.to_markdown`."""
    columns: list[Column] = [(role, task) for role in ROLES for task in curve.tasks.get(role, [])]
    columns = [c for c in columns if any(curve.get(a, *c, split) for a in curve.alphas)]
    attacked = [c for c in columns if any(attack_cell(curve.get(a, *c, split)) for a in curve.alphas)]
    header = ["alpha", *(f"{task} ({role})" for role, task in columns)]
    rows = [header + [f"{task} attack success ({role})" for role, task in attacked]]
    for alpha in curve.alphas:
        results = [curve.get(alpha, *column, split) for column in columns]
        if not any(results):
            continue
        bounds = [_gain_interval(curve, result) if intervals else None for result in results]
        cells = [alpha_label(alpha, fine_tuned_label), *map(accuracy_cell, results, bounds)]
        cells += [attack_cell(curve.get(alpha, *column, split)) for column in attacked]
        rows.append(bold(cells) if alpha == selected else cells)
    return rows


def accuracy_cell(result: Result | None, bounds: Interval | None = None) -> str:
    """Format an accuracy in percent, followed by the interval of its gain and the mean absolute error if available."""
    if result is None:
        return ""
    gain = "" if bounds is None else f" ({interval(bounds)})"
    error = "" if result.mean_absolute_error is None else f", MAE {number(result.mean_absolute_error)}"
    return f"{marked(percent(result.accuracy), exact=result.exact)}{gain}{error}"


def attack_cell(result: Result | None) -> str:
    """Format the attack success: the percentage of images that are misclassified as the word written on them."""
    if result is None or result.attack_success is None:
        return ""
    return marked(percent(result.attack_success / result.total), exact=result.exact)


def _gain_interval(curve: "AlphaCurve", result: Result | None) -> Interval | None:
    if result is None or result.alpha == 0:
        return None
    gain = curve.gain(result)
    return None if gain is None else gain.interval
