"""How results show themselves: a short text in a console, a table in a notebook."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from hf_paint.results.alphas import Alpha, format_alpha
from hf_paint.results.curve_table import curve_rows
from hf_paint.results.tables import FINE_TUNED, alpha_label, percent


if TYPE_CHECKING:
    from hf_paint.results.curve import AlphaCurve


def html_table(rows: Sequence[Sequence[str]], *, strong: str | None = None) -> str:
    """Return rows as an HTML table without styles of its own, so that the notebook's theme applies.

    Args:
        rows: Header row, followed by the other rows. Every cell is escaped.
        strong: First cell of the row to set in bold.

    Example:
        >>> html_table([["alpha", "<b>"], ["0.50", "98.10"]])
        '<table><tr><th>alpha</th><th>&lt;b&gt;</th></tr><tr><td>0.50</td><td>98.10</td></tr></table>'
    """
    header, *others = rows
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in header)]
    for row in others:
        cells = [f"<b>{escape(cell)}</b>" if row[0] == strong else escape(cell) for cell in row]
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def curve_html(curve: "AlphaCurve", selected: Alpha | None = None) -> str:
    """Return the accuracies of a curve in percent as HTML, with the row of the selected alpha in bold."""
    split = curve.reported_split
    label = None if selected is None else alpha_label(selected, FINE_TUNED)
    table = html_table(curve_rows(curve, split), strong=label)
    return f"<p>Accuracy on {split} images in percent</p>{table}"


def describe_curve(curve: "AlphaCurve") -> str:
    """Return the tasks and the number of alphas of a curve on one line."""
    tasks = [f"{role}={names}" for role, names in curve.tasks.items()]
    return f"AlphaCurve({', '.join([f'{len(curve.alphas)} alphas', *tasks])})"


def describe_change(curve: "AlphaCurve", alpha: Alpha) -> str:
    """Return the accuracy of each patching and supported task at alpha 0 and at an alpha, on one line.

    Example:
        >>> curve = AlphaCurve.from_accuracies([0, 1], patching={"mnist": [0.5, 0.9]}, supported={"cars": [0.6, 0.5]})
        >>> describe_change(curve, 1.0)
        'alpha 1.00: mnist 50.0 -> 90.0, cars 60.0 -> 50.0'
    """
    split = curve.reported_split
    changes = []
    for role in ("patching", "supported"):
        for task in curve.tasks.get(role, []):
            before, after = curve.get(0.0, role, task, split), curve.get(alpha, role, task, split)
            if before is not None and after is not None:
                changes.append(f"{task} {percent(before.accuracy, digits=1)} -> {percent(after.accuracy, digits=1)}")
    return f"alpha {format_alpha(alpha)}: {', '.join(changes)}"
