"""Markdown of the generated pages: tables, and texts of the code as they can stand in a page."""

import re
from collections.abc import Iterable, Sequence


CODE = re.compile(r"(`[^`]*`)")
SPECIAL = {"<": "&lt;", "{": "&#123;", "|": "\\|"}
"""What would become HTML, attributes or a new cell."""


def text(words: str) -> str:
    """Return a text of the code on one line. Its code spans stay as they are."""
    parts = CODE.split(" ".join(words.split()))
    return "".join(part if part.startswith("`") else part.translate(str.maketrans(SPECIAL)) for part in parts)


def code(words: object) -> str:
    """Return a code span, or nothing for an empty text."""
    return f"`{words}`" if str(words) else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sections(*parts: str) -> str:
    """Join the parts of a page, without empty ones."""
    return "\n\n".join(part for part in parts if part) + "\n"
