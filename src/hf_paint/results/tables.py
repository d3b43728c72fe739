"""Numbers as text: percentages, differences in points, intervals, labels of alphas, and Markdown tables."""

import math
from collections.abc import Sequence
from fractions import Fraction

from hf_paint.results.alphas import Alpha, format_alpha


Interval = tuple[float, float]

FINE_TUNED = "fine-tuned"
"""The label of alpha 1 after ordinary fine-tuning."""
INEXACT = "~"
"""Marks a number that an adaptive sweep inferred for some images."""


def percent(share: Fraction | float | None, *, digits: int = 2) -> str:
    """Format a fraction of 1 in percent; empty for None.

    Example:
        >>> percent(0.8125)
        '81.25'
    """
    return "" if share is None else f"{100 * float(share):.{digits}f}"


def points(difference: Fraction | float | None, bounds: Interval | None = None, *, digits: int = 2) -> str:
    """Format a difference of two fractions of 1 in percentage points, with its interval if there is one.

    Example:
        >>> points(0.125, (0.1, 0.15))
        '+12.50 (+10.00 to +15.00)'
    """
    if difference is None:
        return ""
    suffix = "" if bounds is None else f" ({interval(bounds, digits=digits)})"
    return f"{100 * float(difference):+.{digits}f}{suffix}"


def interval(bounds: Interval, *, digits: int = 2) -> str:
    """Format the two ends of an interval of differences in percentage points."""
    low, high = bounds
    return f"{100 * low:+.{digits}f} to {100 * high:+.{digits}f}"


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number; empty for None and NaN."""
    return "" if value is None or math.isnan(value) else format(value, form)


def marked(text: str, *, exact: bool) -> str:
    """Put `~` before a number that is not exact."""
    return text if exact or not text else f"{INEXACT}{text}"


def alpha_label(alpha: Alpha, fine_tuned_label: str = FINE_TUNED) -> str:
    """Return the label of an alpha in a table: both ends of the line also have a name."""
    if alpha == 0:
        return "0 (zero-shot)"
    return f"1 ({fine_tuned_label})" if alpha == 1 else format_alpha(alpha)


def bold(cells: Sequence[str]) -> list[str]:
    """Set the cells of a row in bold; empty ones stay empty."""
    return [f"**{cell}**" if cell else "" for cell in cells]


def markdown(rows: Sequence[Sequence[str]], *, text_columns: int = 0) -> str:
    """Return a Markdown table.

    Args:
        rows: The header, then the other rows.
        text_columns: How many columns at the left hold text; the others hold numbers and are aligned to the right.

    Example:
        >>> print(markdown([["alpha", "mnist"], ["0.50", "98.10"]], text_columns=1))
        | alpha | mnist |
        | --- | ---: |
        | 0.50 | 98.10 |
    """
    alignment = ["---"] * text_columns + ["---:"] * (len(rows[0]) - text_columns)
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (rows[0], alignment, *rows[1:])
    )
