"""Format percentages, differences, intervals and alphas as text, and build Markdown tables."""

import math
from collections.abc import Sequence
from fractions import Fraction

from hf_paint.results.alphas import Alpha, format_alpha
from hf_paint.results.markdown import Markdown


Interval = tuple[float, float]

FINE_TUNED = "fine-tuned"
"""Label for alpha 1 after ordinary fine-tuning."""
INEXACT = "~"
"""Marker for numbers that an adaptive sweep inferred in part."""
INEXACT_NOTE = (
    "A number marked `~` was not measured on every image: if the two nearest measured alphas predict the same class, "
    "their prediction was reused."
)


def percent(share: Fraction | float | None, *, digits: int = 2) -> str:
    """Format a fraction of 1 as a percentage. Return an empty string for None.

    Example:
        >>> percent(0.8125)
        '81.25'
    """
    return "" if share is None else f"{100 * float(share):.{digits}f}"


def points(difference: Fraction | float | None, bounds: Interval | None = None, *, digits: int = 2) -> str:
    """Format the difference of two fractions of 1 in percentage points, with its interval if given.

    Example:
        >>> points(0.125, (0.1, 0.15))
        '+12.50 (+10.00 to +15.00)'
    """
    if difference is None:
        return ""
    suffix = "" if bounds is None else f" ({interval(bounds, digits=digits)})"
    return f"{100 * float(difference):+.{digits}f}{suffix}"


def in_points(difference: Fraction | float) -> str:
    """Format the size of a difference of two fractions of 1 in words.

    Example:
        >>> in_points(0.01), in_points(-0.025)
        ('1 point', '2.5 points')
    """
    value = abs(100 * float(difference))
    return f"{value:g} point{'' if value == 1 else 's'}"


def interval(bounds: Interval, *, digits: int = 2) -> str:
    """Format an interval of differences in percentage points."""
    low, high = bounds
    return f"{100 * low:+.{digits}f} to {100 * high:+.{digits}f}"


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number. Return an empty string for None and NaN."""
    return "" if value is None or math.isnan(value) else format(value, form)


def marked(text: str, *, exact: bool) -> str:
    """Prefix a formatted number with `~` if it is not exact."""
    return text if exact or not text else f"{INEXACT}{text}"


def alpha_label(alpha: Alpha, fine_tuned_label: str = FINE_TUNED) -> str:
    """Return the label for an alpha in a table, which includes a name for alpha 0 and 1."""
    if alpha == 0:
        return "0 (zero-shot)"
    return f"1 ({fine_tuned_label})" if alpha == 1 else format_alpha(alpha)


def bold(cells: Sequence[str]) -> list[str]:
    """Make the non-empty cells of a row bold."""
    return [Markdown("**{}**").format(cell) if cell else "" for cell in cells]


def table(rows: Sequence[Sequence[str]], *, text_columns: int = 0) -> Markdown:
    """Return a Markdown table like `markdown`, for a card: what its cells hold is escaped."""
    cells = [[Markdown.escape(cell.replace("|", "/")) for cell in row] for row in rows]
    return Markdown(markdown(cells, text_columns=text_columns))


def markdown(rows: Sequence[Sequence[str]], *, text_columns: int = 0) -> str:
    """Return a Markdown table.

    Args:
        rows: Header row, followed by the other rows.
        text_columns: Number of leftmost columns that contain text. All other columns are right-aligned.

    Example:
        >>> print(markdown([["alpha", "mnist"], ["0.50", "98.10"]], text_columns=1))
        | alpha | mnist |
        | --- | ---: |
        | 0.50 | 98.10 |
    """
    alignment = ["---"] * text_columns + ["---:"] * (len(rows[0]) - text_columns)
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in (rows[0], alignment, *rows[1:]))


def _cell(text: str) -> str:
    """Return text as it can stand in a cell: on one line, without the mark between cells."""
    return " ".join(str(text).replace("|", "/").split())


def enumerated(names: Sequence[str]) -> str:
    """Return names as a part of a sentence: `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
