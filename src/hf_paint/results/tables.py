"""The cells of the table of a curve."""

import math
from collections.abc import Sequence
from fractions import Fraction

from hf_paint.results.alphas import Alpha, format_alpha
from hf_paint.results.records import Result


def alpha_label(alpha: Alpha, end: str) -> str:
    """Return what a row is called; `end` is what alpha 1 is called."""
    if alpha == 0:
        return "0 (zero-shot)"
    return f"1 ({end})" if alpha == 1 else format_alpha(alpha)


def accuracy_cell(result: Result | None, low: float | None = None, high: float | None = None) -> str:
    """Return an accuracy in percent, with the interval of its gain in points and the error of a count, if any."""
    if result is None:
        return ""
    bounds = "" if low is None or high is None else f" ({100 * low:+.2f} to {100 * high:+.2f})"
    error = "" if result.mean_absolute_error is None else f", MAE {result.mean_absolute_error:.2f}"
    return f"{_about(result)}{100 * result.accuracy:.2f}{bounds}{error}"


def attack_cell(result: Result | None) -> str:
    """Return how many images are taken for the wrong word that is written on them, in percent of all."""
    if result is None or result.attack_success is None:
        return ""
    return f"{_about(result)}{100 * result.attack_success / result.total:.2f}"


def _about(result: Result) -> str:
    return "" if result.exact else "~"


def _percent(accuracy: Fraction | None, *, exact: bool) -> str:
    return "" if accuracy is None else f"{'' if exact else '~'}{100 * float(accuracy):.2f}"


def _points(distance: Fraction | None) -> str:
    return "" if distance is None else f"{100 * float(distance):+.2f}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None or math.isnan(value) else format(value, form)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first two columns are text; empty where there is nothing below the header."""
    if len(rows) < 2:
        return ""
    alignment = ["---", "---", *["---:"] * (len(rows[0]) - 2)]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (rows[0], alignment, *rows[1:])
    )
