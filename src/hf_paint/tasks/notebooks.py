"""How a task shows itself in a notebook; also HTML tables for all that does."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from hf_paint.tasks.task import Task

MOST_CLASSES, MOST_PROMPTS = 20, 5
"""Maximum number of classes and prompts that are listed."""
MOST_CHARACTERS = 200
"""Maximum length of one of them."""


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


def task_html(task: "Task") -> str:
    """Return the definition of a task as HTML: its data, splits, classes and prompts. No data are read."""
    classes = ["from the data"] if task.class_names is None else [str(len(task.class_names))]
    rows = [
        ["task", task.name],
        ["kind", task.kind],
        ["data set", " ".join(filter(None, [task.dataset, task.config]))],
        *([split, getattr(task.splits, split) or "none"] for split in ("train", "validation", "test")),
        ["classes", ": ".join([*classes, *_listed(task.class_names or (), MOST_CLASSES)])],
        ["prompts", ": ".join([str(len(task.templates)), *_listed(task.templates, MOST_PROMPTS)])],
    ]
    return html_table(rows)


def _listed(texts: Sequence[str], most: int) -> list[str]:
    """Return the first of several texts on one line; an empty list if there are none."""
    shown = [text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…" for text in texts[:most]]
    more = [f"… ({len(texts) - most} more)"] if len(texts) > most else []
    return [", ".join([*shown, *more])] if shown else []
