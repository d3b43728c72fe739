"""The end of a run on the command line: the table over alphas, what happened to each task, and one sentence."""

import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from hf_paint.results.alphas import alpha_phrase
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.curve_table import curve_rows
from hf_paint.results.outcome import Outcome
from hf_paint.results.outcome_text import outcome_rows, summarise
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.tables import markdown


MARK = "**"
"""Mark of bold cells in Markdown."""
SHORTEST_LINE = 11
"""Characters of a header that stay on one line, such as `test images`."""
GAP = 2
"""Spaces between two columns."""


def print_place(outcome: Outcome, run: Path) -> None:
    """Print where the patched model is, or the run folder if there is none, and where the report is."""
    if outcome.alpha is None:
        sys.stdout.write(f"no alpha was chosen: {run}\n")
    else:
        sys.stdout.write(f"{alpha_phrase(outcome.alpha)}: {RunFolder(run).patched}\n")
    if RunFolder(run).report.exists():
        sys.stdout.write(f"report: {RunFolder(run).report}\n")


def report(outcome: Outcome, curve: AlphaCurve, run: Path, *, end: str) -> None:
    """Print the outcome of a run, or of another choice: two tables and one sentence.

    Args:
        outcome: Outcome of the run.
        curve: Its results.
        run: Run folder.
        end: Name of theta_1 in the table.
    """
    split = outcome.changes[0].split if outcome.changes else curve.reported_split
    chosen = "" if outcome.alpha is None else "; the row in bold was chosen"
    sys.stdout.write(f"\nAccuracy on {split} images in percent, by alpha{chosen}:\n\n")
    print_rows(curve_rows(curve, split, selected=outcome.alpha, fine_tuned_label=end))
    if outcome.changes:
        sys.stdout.write("\n")
        print_rows(outcome_rows(outcome), text_columns=2)
    sys.stdout.write(f"\n{summarise(outcome, run=run)}\n")


def print_rows(rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> None:
    """Print a table for a terminal or, in a pipe, in a file or if the terminal is too narrow for it, as Markdown.

    Args:
        rows: Header row, followed by the other rows; cells between `**` are bold.
        text_columns: Number of leftmost columns that contain text. All other columns are right-aligned.
    """
    console = Console()
    table = _table(rows, text_columns)
    needed = sum(GAP + (column.min_width or 0) for column in table.columns) - GAP
    if console.is_terminal and needed <= console.width:
        console.print(table, markup=False)
    else:
        sys.stdout.write(f"{markdown(rows, text_columns=text_columns)}\n")


def _table(rows: Sequence[Sequence[str]], text_columns: int) -> Table:
    """Return a table that becomes narrower by folding text, never numbers."""
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, (name, *cells) in enumerate(zip(*rows, strict=True)):
        if number < text_columns:
            table.add_column(name, overflow="fold", min_width=min(SHORTEST_LINE, max(map(len, [name, *cells]))))
        else:
            lines = wrap(name, max(SHORTEST_LINE, *map(len, cells)), break_long_words=False)
            width = max(map(len, [*lines, *cells]))
            table.add_column("\n".join(lines), justify="right", no_wrap=True, min_width=width)
    for row in rows[1:]:
        style = "bold" if row[0].startswith(MARK) else None
        table.add_row(*(cell.removeprefix(MARK).removesuffix(MARK) for cell in row), style=style)
    return table
