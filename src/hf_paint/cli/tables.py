"""Tables of the command line: aligned on a terminal, and Markdown in a file or a pipe."""

import re
import sys
from collections.abc import Sequence
from textwrap import wrap

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from hf_paint.results.tables import markdown


Rows = Sequence[Sequence[str]]
BOLD = "**"
"""Mark of bold cells in Markdown."""
MARK = " *"
"""Mark of a bold row on a terminal, which may have no bold type."""
SHORTEST_LINE = 11
"""Characters of a header that stay on one line, such as `test images`."""
SHORTEST_TEXT = 9
"""Characters of a text that stay on one line, such as `supported`."""
GAP = 2
"""Spaces between two columns."""
NUMBER = re.compile(r"(\*\*)?[~+-]*\d|-?$")
"""How a cell begins that holds a number, or none."""


def print_table(*versions: Rows) -> None:
    """Print a table: on a terminal, the first version that fits; in a file or a pipe, the first one as Markdown.

    On a terminal, text is folded, but numbers stay on one line. If no version fits, the last one is printed as
    Markdown.

    Args:
        versions: The table, and shorter versions of it. Each has a header row, followed by the other rows; the cells
            of a bold row are between `**`.
    """
    console = Console()
    for rows in versions if console.is_terminal else ():
        for table in (_table(rows), _table(_narrow(rows))):
            if sum(GAP + (column.min_width or 0) for column in table.columns) - GAP <= console.width:
                console.print(table, markup=False)
                return
    rows = versions[-1 if console.is_terminal else 0]
    numbers = _are_numbers(rows)
    num_text = numbers.index(True) if True in numbers else len(numbers)
    sys.stdout.write(f"{markdown(rows, text_columns=num_text)}\n")


def marked_row() -> str:
    """Return how to recognise a bold row where tables are printed now."""
    return f"the row marked with{MARK}" if Console().is_terminal else "the row in bold"


def _table(rows: Rows) -> Table:
    """Return a table that becomes narrower by folding text, never numbers."""
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    body = [_without_bold(row) for row in rows[1:]]
    for number, is_number in enumerate(_are_numbers(rows)):
        name, lines = rows[0][number], [line for row in body for line in row[number].split("\n")]
        if is_number:
            header = wrap(name, max(SHORTEST_LINE, *map(len, lines)))
            width = max(map(len, [*header, *lines]))
            table.add_column("\n".join(header), justify="right", no_wrap=True, min_width=width)
        else:
            longest = max(map(len, [name, *lines]))
            table.add_column(name, overflow="fold", min_width=min(SHORTEST_TEXT, longest))
    for row, cells in zip(rows[1:], body, strict=True):
        table.add_row(*cells, style="bold" if row[0].startswith(BOLD) else None)
    return table


def _are_numbers(rows: Rows) -> list[bool]:
    """Return which columns hold numbers, and so are aligned on the right; the first one does not."""
    return [False, *(all(map(NUMBER.match, cells)) for _, *cells in list(zip(*rows, strict=True))[1:])]


def _narrow(rows: Rows) -> Rows:
    """Return rows in which what stands in parentheses after a number is on a line of its own."""
    numbers = _are_numbers(rows)
    lines = [
        [cell.replace(" (", "\n(") if is_number else cell for cell, is_number in zip(row, numbers, strict=True)]
        for row in rows[1:]
    ]
    return [rows[0], *lines]


def _without_bold(row: Sequence[str]) -> list[str]:
    """Return the cells without `**`; the first one of a bold row gets a mark."""
    first, *others = (cell.removeprefix(BOLD).removesuffix(BOLD) for cell in row)
    return [f"{first}{MARK}" if row[0].startswith(BOLD) else first, *others]
