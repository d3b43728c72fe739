"""How results show themselves: a short text in a console; what happened, a table and a plot in a notebook."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from hf_paint.results.alphas import Alpha, format_alpha
from hf_paint.results.change_text import CHOOSING, MOST_NAMED
from hf_paint.results.curve_table import MOST_ROWS, curve_rows
from hf_paint.results.tables import FINE_TUNED, alpha_label, percent
from hf_paint.tasks.notebooks import html_table


if TYPE_CHECKING:
    from hf_paint.results.curve import AlphaCurve

MOST_CELLS = 3000
"""Larger tables are not shown as a whole, so that a notebook with many results stays small."""


def curve_html(curve: "AlphaCurve", selected: Alpha | None = None, *, claim: str = "") -> str:
    """Return a curve as HTML without styles of its own: what happened, the accuracies in percent, and the plot.

    Args:
        curve: Curve to show.
        selected: Chosen alpha, whose row is set in bold; by default, that of the run folder, if there is one.
        claim: What happened; by default, what the tasks gained and lost at the chosen or, without one, the last alpha.
    """
    from hf_paint.results.plots.shown import Shown
    from hf_paint.results.plots.trade_off import draw_curve

    shown = Shown.of(curve)
    shown = shown if selected is None else replace(shown, selected=selected)
    parts = [f"<p>{escape(claim or shown.finding)}</p>", f"<p>Accuracy on {escape(shown.split)} images in percent</p>"]
    parts.append(_table(curve, shown.split, shown.selected))
    if shown.alphas:
        source = b64encode(draw_curve(shown).encoded("png")).decode("ascii")
        parts.append(f'<img width="700" alt="{escape(shown.finding)}" src="data:image/png;base64,{source}">')
    return "".join(parts)


def _table(curve: "AlphaCurve", split: str, selected: Alpha | None) -> str:
    """Return the accuracies as a table, folded if it is long.

    Then it shows the zero-shot, the chosen and the fine-tuned model, and the rest on a click.
    """
    rows = curve_rows(curve, split)
    label = None if selected is None else alpha_label(selected, FINE_TUNED)
    if len(rows) <= MOST_ROWS + 1:
        return html_table(rows, strong=label)
    ends = {label, alpha_label(0.0), alpha_label(1.0)}
    short = html_table([rows[0], *(row for row in rows[1:] if row[0] in ends)], strong=label)
    if len(rows) * len(rows[0]) > MOST_CELLS:
        return f"{short}<p>{len(rows) - 1} alphas in all; to_frame() and to_markdown() have them.</p>"
    return f"{short}<details><summary>All {len(rows) - 1} alphas</summary>{html_table(rows, strong=label)}</details>"


def describe_curve(curve: "AlphaCurve") -> str:
    """Return the tasks and the number of alphas of a curve on one line."""
    tasks = [f"{role}=[{_named(list(map(repr, names)))}]" for role, names in curve.tasks.items()]
    return f"AlphaCurve({', '.join([f'{len(curve.alphas)} alphas', *tasks])})"


def describe_change(curve: "AlphaCurve", alpha: Alpha) -> str:
    """Return the accuracy of the patching and supported tasks at alpha 0 and at an alpha, on one line.

    Example:
        >>> curve = AlphaCurve.from_accuracies([0, 1], patching={"mnist": [0.5, 0.9]}, supported={"cars": [0.6, 0.5]})
        >>> describe_change(curve, 1.0)
        'alpha 1.00: mnist 50.0 -> 90.0, cars 60.0 -> 50.0'
    """
    split = curve.reported_split
    changes = []
    for role in CHOOSING:
        of_role = []
        for task in curve.tasks.get(role, []):
            before, after = curve.get(0.0, role, task, split), curve.get(alpha, role, task, split)
            if before is not None and after is not None:
                of_role.append(f"{task} {percent(before.accuracy, digits=1)} -> {percent(after.accuracy, digits=1)}")
        changes += [_named(of_role, f"{role} tasks")] if of_role else []
    return f"alpha {format_alpha(alpha)}: {', '.join(changes)}"


def _named(texts: Sequence[str], what: str = "") -> str:
    """Return the first texts, and how many more there are."""
    rest = [" ".join(filter(None, [f"{len(texts) - MOST_NAMED} more", what]))] if len(texts) > MOST_NAMED else []
    return ", ".join([*texts[:MOST_NAMED], *rest])
