"""Append-only files with one JSON object per line, which survive a killed process."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hf_paint.errors import InputError


Record = TypeVar("Record")


def read_lines(path: Path, parse: Callable[[str], Record]) -> list[Record]:
    """Return what `parse` makes of each line. An incomplete last line, left behind by a killed process, is ignored.

    Raises:
        InputError: If a complete line is not a record.
    """
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(parse(line))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"Line {number} of {path} is not a valid record: {error}") from error
    return records


def append_line(path: Path, line: str, *, sync: bool = True) -> None:
    """Append a line to a file, so that it outlives the process; with `sync`, it also outlives a crash of the machine.

    Waiting for the disk takes milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        if sync:
            file.flush()
            os.fsync(file.fileno())


def drop_torn_line(path: Path) -> None:
    """Remove an incomplete last line, so that the next one can be appended."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
